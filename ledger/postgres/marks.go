package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger"
)

// markKey is what a mark is unique by.
type markKey struct {
	order  gift.OrderID
	number int
}

// markRows are marks as the columns of one statement, each key once. The statements
// sort them, so that two which meet on the same rows do not wait for each other in a
// circle.
type markRows struct {
	orders          [][16]byte
	numbers         []int32
	partners, nodes []string
	epochs, began   []int64
	states          []int16
	from            map[markKey]int // which of the given ones a row was made of
}

// rowsOf takes of equal keys the one for which better says so, else the first.
func rowsOf(ends []ledger.Conclusion, better func(than, c *ledger.Conclusion) bool) (*markRows, error) {
	if len(ends) > ledger.MaxMarks {
		return nil, fmt.Errorf("%d attempts in one call: it takes up to %d", len(ends), ledger.MaxMarks)
	}
	r := &markRows{from: make(map[markKey]int, len(ends))}
	var keys []markKey
	for i := range ends {
		k := markKey{ends[i].Order, ends[i].Number}
		first, known := r.from[k]
		switch {
		case k.number < 1:
			return nil, fmt.Errorf("order %v: attempt %d: numbers begin at 1", k.order, k.number)
		case !known:
			keys = append(keys, k)
			r.from[k] = i
		case better != nil && better(&ends[first], &ends[i]):
			r.from[k] = i
		}
	}
	for _, k := range keys {
		e := &ends[r.from[k]]
		r.orders, r.numbers = append(r.orders, e.Order), append(r.numbers, int32(e.Number))
		r.partners, r.nodes = append(r.partners, text(e.Partner)), append(r.nodes, text(e.Node))
		r.epochs, r.began, r.states = append(r.epochs, e.Epoch), append(r.began, nanos(e.Began)), append(r.states, int16(e.State))
	}
	return r, nil
}

func unconcluded(attempts []ledger.Attempt) []ledger.Conclusion {
	ends := make([]ledger.Conclusion, len(attempts))
	for i, a := range attempts {
		ends[i].Attempt = a
	}
	return ends
}

// Mark implements ledger.Marks.
func (l *Ledger) Mark(ctx context.Context, attempts []ledger.Attempt) ([]ledger.Standing, error) {
	rows, err := rowsOf(unconcluded(attempts), nil)
	if err != nil || len(attempts) == 0 {
		return nil, err
	}
	standings := make([]ledger.Standing, len(attempts))
	err = l.do(ctx, "mark attempts", func(ctx context.Context) error {
		won := make(map[markKey]bool, len(rows.orders))
		for range tries {
			if err := l.insertMarks(ctx, rows, won); err != nil {
				return err
			}
			missing, err := l.fillStandings(ctx, attempts, rows, won, standings)
			if err != nil || !missing {
				return err
			}
			// What stood in the way was released before it could be looked at.
		}
		return errors.New("marks were made and released again and again meanwhile")
	})
	if err != nil {
		return nil, err
	}
	return standings, nil
}

// insertMarks makes the marks that nothing stands in the way of.
//
// Commit point of an attempt: the statement is its own transaction. One that meets
// the row of another which is under way waits until that has ended.
func (l *Ledger) insertMarks(ctx context.Context, r *markRows, won map[markKey]bool) error {
	return repeating(func() error {
		rows, err := l.pool.Query(ctx, `
			INSERT INTO marks (order_id, number, partner, node, epoch, began, concluded, concluded_at)
			SELECT order_id, number, partner, node, epoch, began, 0, 0
			FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) AS t (order_id, number, partner, node, epoch, began)
			WHERE NOT EXISTS (SELECT 1 FROM marks g WHERE g.order_id = t.order_id AND (g.number > t.number OR g.concluded = $7))
			ORDER BY order_id, number
			ON CONFLICT DO NOTHING RETURNING order_id, number`,
			r.orders, r.numbers, r.partners, r.nodes, r.epochs, r.began, int16(gift.StateGranted))
		return each(rows, err, func(row pgx.Row) error {
			var k markKey
			err := row.Scan((*[16]byte)(&k.order), &k.number)
			won[k] = true
			return err
		})
	})
}

// fillStandings sets the standings of marks that were won, and looks up what stands
// in the way of the others. missing: of one of them nothing was found.
func (l *Ledger) fillStandings(ctx context.Context, attempts []ledger.Attempt, r *markRows, won map[markKey]bool, standings []ledger.Standing) (missing bool, err error) {
	var lost []gift.OrderID
	for i, a := range attempts {
		k := markKey{a.Order, a.Number}
		if !won[k] {
			lost = append(lost, a.Order)
			continue
		}
		first := r.from[k]
		standings[i] = ledger.Standing{Won: i == first, Mark: attempts[first]}
	}
	if len(lost) == 0 {
		return false, nil
	}
	highest, err := l.highest(ctx, lost)
	if err != nil {
		return false, err
	}
	for i, a := range attempts {
		if won[markKey{a.Order, a.Number}] {
			continue
		}
		s, found := highest[a.Order]
		standings[i] = s
		missing = missing || !found
	}
	return missing, nil
}

// highest gives of each order that has marks the granted one, else the last.
func (l *Ledger) highest(ctx context.Context, orders []gift.OrderID) (map[gift.OrderID]ledger.Standing, error) {
	highest := make(map[gift.OrderID]ledger.Standing)
	err := l.marksOf(ctx, orders, func(s ledger.Standing) {
		before := highest[s.Mark.Order]
		s.Parked = before.Parked
		if s.Concluded == gift.StateParked {
			s.Parked = s.Mark.Number
		}
		if before.Concluded == gift.StateGranted {
			before.Parked, s = s.Parked, before
		}
		highest[s.Mark.Order] = s
	})
	return highest, err
}

// marksOf reads orders' marks, of each by their numbers.
func (l *Ledger) marksOf(ctx context.Context, orders []gift.OrderID, take func(ledger.Standing)) error {
	rows, err := l.pool.Query(ctx, "SELECT order_id, number, partner, node, epoch, began, concluded, concluded_at FROM marks WHERE order_id = ANY($1) ORDER BY order_id, number", raw(orders))
	return each(rows, err, func(row pgx.Row) error {
		var s ledger.Standing
		var began, at int64
		err := row.Scan((*[16]byte)(&s.Mark.Order), &s.Mark.Number, &s.Mark.Partner, &s.Mark.Node, &s.Mark.Epoch, &began, &s.Concluded, &at)
		s.Mark.Began, s.Time = fromNanos(began), fromNanos(at)
		take(s)
		return err
	})
}

// Conclude implements ledger.Marks.
func (l *Ledger) Conclude(ctx context.Context, ends []ledger.Conclusion) error {
	for i := range ends {
		if s := ends[i].State; s < gift.StateDeferred || s > gift.StateParked {
			return fmt.Errorf("order %v: attempt %d cannot end as %v", ends[i].Order, ends[i].Number, s)
		}
	}
	r, err := rowsOf(ends, func(than, c *ledger.Conclusion) bool { return than.State != gift.StateGranted })
	if err != nil || len(ends) == 0 {
		return err
	}
	return l.do(ctx, "conclude attempts", func(ctx context.Context) error {
		now, err := l.now(ctx, l.pool)
		if err != nil {
			return err
		}
		return repeating(func() error {
			_, err := l.pool.Exec(ctx, `
				INSERT INTO marks AS m (order_id, number, partner, node, epoch, began, concluded, concluded_at)
				SELECT order_id, number, partner, node, epoch, began, concluded, $8
				FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::smallint[])
					AS t (order_id, number, partner, node, epoch, began, concluded)
				ORDER BY order_id, number
				ON CONFLICT (order_id, number) DO UPDATE SET concluded = excluded.concluded, concluded_at = excluded.concluded_at
				WHERE m.concluded <> $9 AND m.concluded <> excluded.concluded`,
				r.orders, r.numbers, r.partners, r.nodes, r.epochs, r.began, r.states, nanos(now), int16(gift.StateGranted))
			return err
		})
	})
}

// Release implements ledger.Marks.
func (l *Ledger) Release(ctx context.Context, attempts []ledger.Attempt) error {
	r, err := rowsOf(unconcluded(attempts), nil)
	if err != nil || len(attempts) == 0 {
		return err
	}
	return l.do(ctx, "release marks", func(ctx context.Context) error {
		return repeating(func() error {
			_, err := l.pool.Exec(ctx, `
				DELETE FROM marks m USING unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[]) AS t (order_id, number, node, epoch)
				WHERE m.order_id = t.order_id AND m.number = t.number AND m.node = t.node AND m.epoch = t.epoch AND m.concluded = 0`,
				r.orders, r.numbers, r.nodes, r.epochs)
			return err
		})
	})
}

// Highest implements ledger.Marks.
func (l *Ledger) Highest(ctx context.Context, orders []gift.OrderID) (map[gift.OrderID]ledger.Standing, error) {
	if len(orders) > ledger.MaxMarks {
		return nil, fmt.Errorf("%d orders in one call: it takes up to %d", len(orders), ledger.MaxMarks)
	}
	var highest map[gift.OrderID]ledger.Standing
	err := l.do(ctx, "look marks up", func(ctx context.Context) (err error) {
		highest, err = l.highest(ctx, orders)
		return err
	})
	return highest, err
}

// Sweep implements ledger.Marks. An order whose later attempt has not ended finally
// keeps all its marks. Counted one by one, orders are looked at as they come out of
// the index, and no more of them than are swept. A mark that is concluded meanwhile is
// looked at again as it is then, and stays.
func (l *Ledger) Sweep(ctx context.Context, before time.Time, limit int) (removed int64, err error) {
	err = l.do(ctx, "sweep marks", func(ctx context.Context) error {
		return repeating(func() error {
			tag, err := l.pool.Exec(ctx, `
				WITH old AS (
					SELECT DISTINCT order_id FROM (
						SELECT order_id FROM marks m WHERE concluded_at <> 0 AND concluded_at < $1 AND concluded >= $2
							AND (SELECT count(*) FROM marks n WHERE n.order_id = m.order_id AND (n.concluded_at >= $1 OR n.number > m.number AND n.concluded < $2)) = 0
						ORDER BY concluded_at LIMIT $3) AS ended)
				DELETE FROM marks USING old WHERE marks.order_id = old.order_id AND marks.concluded_at < $1`,
				nanos(before), int16(gift.StateGranted), limit)
			removed = tag.RowsAffected()
			return err
		})
	})
	return removed, err
}
