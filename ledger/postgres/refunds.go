package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// Refund implements ledger.Stock.
func (l *Ledger) Refund(ctx context.Context, refunds []ledger.Refund) error {
	for _, r := range refunds {
		if r.Count < 1 || r.Claim.IsZero() {
			return fmt.Errorf("refund of %d × %s/%s for claim %v: it needs a count and a claim", r.Count, r.Campaign, r.Gift, r.Claim)
		}
	}
	return l.do(ctx, "refund stock", func(ctx context.Context) error {
		return repeating(func() error { return refund(ctx, l.pool, once(refunds)) })
	})
}

// once leaves of refunds for one claim and gift the first.
func once(refunds []ledger.Refund) (list []ledger.Refund) {
	type of struct {
		claim gift.ClaimID
		gift  string
	}
	seen := make(map[of]bool)
	for _, r := range refunds {
		if k := (of{r.Claim, r.Gift}); !seen[k] {
			seen[k] = true
			list = append(list, r)
		}
	}
	return list
}

// executor is the pool or a transaction.
type executor interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
}

// refund takes claims, and then gifts, in the order of their keys, as every statement
// does that takes several.
//
// Commit point: a claim's row and the sum it is counted in, at once.
func refund(ctx context.Context, e executor, refunds []ledger.Refund) error {
	if len(refunds) == 0 {
		return nil
	}
	claims, campaigns, gifts, counts, nths := refundRows(refunds)
	_, err := e.Exec(ctx, `
		WITH fresh AS (
			INSERT INTO refunds (claim_id, campaign, gift, count, nth)
			SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::int[])
			ON CONFLICT DO NOTHING RETURNING campaign, gift, count)
		INSERT INTO stock AS s (campaign, gift, refunded)
		SELECT campaign, gift, sum(count) FROM fresh GROUP BY campaign, gift ORDER BY campaign, gift
		ON CONFLICT (campaign, gift) DO UPDATE SET refunded = s.refunded + excluded.refunded`, claims, campaigns, gifts, counts, nths)
	return err
}

// refundRows are refunds as columns. Of equal claims and gifts each is another one, by
// its number.
func refundRows(refunds []ledger.Refund) (claims [][16]byte, campaigns, gifts []string, counts []int64, nths []int32) {
	sorted := slices.Clone(refunds)
	slices.SortStableFunc(sorted, func(a, b ledger.Refund) int {
		return cmp.Or(bytes.Compare(a.Claim[:], b.Claim[:]), cmp.Compare(a.Gift, b.Gift))
	})
	nth := int32(0)
	for i, r := range sorted {
		if nth++; i == 0 || sorted[i-1].Claim != r.Claim || sorted[i-1].Gift != r.Gift {
			nth = 1
		}
		claims, campaigns, gifts = append(claims, r.Claim), append(campaigns, r.Campaign), append(gifts, r.Gift)
		counts, nths = append(counts, r.Count), append(nths, nth)
	}
	return claims, campaigns, gifts, counts, nths
}

// Weigh implements ledger.Stock.
func (l *Ledger) Weigh(ctx context.Context, claims []gift.ClaimID) error {
	return l.do(ctx, "have claims weighed", func(ctx context.Context) error {
		_, err := l.pool.Exec(ctx, "INSERT INTO refusals (claim_id, looks, due) SELECT claim, 0, 0 FROM unnest($1::uuid[]) AS t (claim)", raw(claims))
		return err
	})
}

// queueRefusals notes what of a batch bears on refunds. What a node has put back into
// a stock of its own counts as refunded, and nothing is added to the common stock.
func queueRefusals(rows *pgx.Batch, b *ledger.Batch) {
	if len(b.Returned) > 0 {
		claims, campaigns, gifts, counts, _ := refundRows(b.Returned)
		rows.Queue(`INSERT INTO refunds (claim_id, campaign, gift, count)
			SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) ON CONFLICT DO NOTHING`, claims, campaigns, gifts, counts)
	}
	var refused [][16]byte
	for i := range b.Events {
		if e := &b.Events[i]; e.Kind == fallbacklog.Refused {
			refused = append(refused, e.Claim)
		}
	}
	if len(refused) > 0 {
		rows.Queue("INSERT INTO refusals (claim_id, looks, due) SELECT claim, 0, 0 FROM unnest($1::uuid[]) AS t (claim)", refused)
	}
}

// maxLook is the longest pause before a refusal is weighed again whose claim is not
// known.
const maxLook = time.Hour

// RefundRefused implements ledger.Stock.
//
// Every refusal that is committed brings its row, so a claim is weighed once more
// after its last order was refused: in a statement that begins after the row was seen,
// and so sees all outcomes that were committed before.
func (l *Ledger) RefundRefused(ctx context.Context, limit int) (weighed int, err error) {
	err = l.writing(ctx, "refund claims that were refused", func(ctx context.Context, tx pgx.Tx) error {
		now, err := l.now(ctx, tx)
		if err != nil {
			return err
		}
		due, err := dueRefusals(ctx, tx, now, limit)
		weighed = len(due)
		if err != nil || weighed == 0 {
			return err
		}
		claims, err := recorded(ctx, tx, due)
		if err != nil {
			return err
		}
		refunds, err := weigh(ctx, tx, claims)
		if err != nil {
			return err
		}
		var done, unknown []int64
		for _, r := range due {
			if _, known := claims[r.claim]; known {
				done = append(done, r.id)
			} else {
				unknown = append(unknown, r.id)
			}
		}
		if err := refund(ctx, tx, refunds); err != nil {
			return err
		}
		b := new(pgx.Batch)
		b.Queue("DELETE FROM refusals WHERE id = ANY($1)", done)
		b.Queue("UPDATE refusals SET looks = looks + 1, due = $2 + least($3, (1000000000 * 2 ^ least(looks, 20))::bigint) WHERE id = ANY($1)",
			unknown, nanos(now), int64(maxLook))
		return tx.SendBatch(ctx, b).Close()
	})
	return weighed, err
}

// noted is a row of refusals.
type noted struct {
	id    int64
	claim gift.ClaimID
}

// dueRefusals takes refusals that nobody else is weighing.
func dueRefusals(ctx context.Context, tx pgx.Tx, now time.Time, limit int) (due []noted, err error) {
	rows, err := tx.Query(ctx, "SELECT id, claim_id FROM refusals WHERE due <= $1 ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED", nanos(now), limit)
	err = each(rows, err, func(row pgx.Row) error {
		var r noted
		err := row.Scan(&r.id, (*[16]byte)(&r.claim))
		due = append(due, r)
		return err
	})
	return due, err
}

// recorded reads what nodes have recorded of claims that are known: of each a row for
// every node.
func recorded(ctx context.Context, tx pgx.Tx, due []noted) (map[gift.ClaimID][]ledger.ClaimRow, error) {
	ids := make([]gift.ClaimID, len(due))
	for i, r := range due {
		ids[i] = r.claim
	}
	claims := make(map[gift.ClaimID][]ledger.ClaimRow)
	rows, err := tx.Query(ctx, "SELECT claim_id, campaign, gift, orders::text FROM claims WHERE claim_id = ANY($1)", raw(ids))
	err = each(rows, err, func(row pgx.Row) error {
		var c ledger.ClaimRow
		var orders []byte
		if err := row.Scan((*[16]byte)(&c.ID), &c.Campaign, &c.Gift, &orders); err != nil {
			return err
		}
		if err := json.Unmarshal(orders, &c.Orders); err != nil {
			return fmt.Errorf("orders of claim %v: %w", c.ID, err)
		}
		claims[c.ID] = append(claims[c.ID], c)
		return nil
	})
	return claims, err
}

// weigh gives the refunds that are due of claims: one for each node that recorded a
// gift, but for the one that is given or may be. A gift is not given whose every order
// was refused, as ledger.Fold tells: a refusal stands, whatever the times, against
// everything but a grant.
func weigh(ctx context.Context, tx pgx.Tx, claims map[gift.ClaimID][]ledger.ClaimRow) (refunds []ledger.Refund, err error) {
	var orders []gift.OrderID
	for _, rows := range claims {
		for i := range rows {
			for _, o := range rows[i].Orders {
				orders = append(orders, o.ID)
			}
		}
	}
	refused := make(map[gift.OrderID]bool)
	rows, err := tx.Query(ctx, `
		SELECT order_id, bool_or(kind = $2) AND NOT bool_or(kind = $3)
		FROM outcomes WHERE order_id = ANY($1) AND sort = $4 GROUP BY order_id`,
		raw(orders), int16(fallbacklog.Refused), int16(fallbacklog.Granted), int16(ledger.SortOutcome))
	err = each(rows, err, func(row pgx.Row) error {
		var id gift.OrderID
		var whole bool
		err := row.Scan((*[16]byte)(&id), &whole)
		refused[id] = whole
		return err
	})
	if err != nil {
		return nil, err
	}
	for id, rows := range claims {
		given := make(map[string]bool) // gifts that one of their records has used up
		for i := range rows {
			c := &rows[i]
			open := func(o gift.Order) bool { return !refused[o.ID] }
			if !given[c.Gift] && (len(c.Orders) == 0 || slices.ContainsFunc(c.Orders, open)) {
				given[c.Gift] = true
				continue
			}
			refunds = append(refunds, ledger.Refund{StockKey: ledger.StockKey{Campaign: c.Campaign, Gift: c.Gift}, Claim: id, Count: 1})
		}
	}
	return refunds, nil
}
