package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"manna/fallbacklog"
	"manna/ledger"
)

// rowsPerInsert is how many claims one INSERT takes. Measured: from 5 to 20 it is
// the same, above it gets slower.
const rowsPerInsert = 20

const claimColumns = 9

// Position is how far a node's log has been taken in.
func (l *Ledger) Position(ctx context.Context, node string) (fallbacklog.Position, error) {
	p, err := l.Place(ctx, node)
	return p.Position, err
}

// Place implements ledger.Store.
func (l *Ledger) Place(ctx context.Context, node string) (p ledger.Place, err error) {
	err = l.derived.reading(ctx, func(db *sql.DB) error {
		row := db.QueryRowContext(ctx, "SELECT position, mark_at, mark, as_of FROM followed WHERE node = ?", node)
		var asOf int64
		var mark []byte
		err := row.Scan(&p.Position, &p.Mark.At, &mark, &asOf)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		copy(p.Mark.Sum[:], mark)
		p.AsOf = fromNanos(asOf)
		return err
	})
	return p, err
}

// WantsOutcomes implements ledger.Store: on one machine the log tells where orders
// stand.
func (l *Ledger) WantsOutcomes() bool { return false }

// Apply implements ledger.Store.
func (l *Ledger) Apply(ctx context.Context, b *ledger.Batch) error {
	if err := l.derived.sound(); err != nil {
		return err
	}
	err := l.derived.writing(ctx, func(tx *sql.Tx) error {
		var at fallbacklog.Position
		err := tx.QueryRowContext(ctx, "SELECT position FROM followed WHERE node = ?", b.Node).Scan(&at)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if at != b.From {
			return fmt.Errorf("node %s: a batch from %v meets the place %v: %w", b.Node, b.From, at, ledger.ErrMoved)
		}
		if err := insertClaims(ctx, tx, b.Claims); err != nil {
			return err
		}
		for _, s := range b.Switches {
			_, err := tx.ExecContext(ctx, "INSERT INTO switched (node, position, name, mode, who, why, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
				b.Node, int64(s.At), s.Name, s.Mode, s.Who, s.Why, nanos(s.Time))
			if err != nil {
				return err
			}
		}
		p := &b.Through
		_, err = tx.ExecContext(ctx, `INSERT INTO followed (node, position, mark_at, mark, as_of) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (node) DO UPDATE SET position = excluded.position, mark_at = excluded.mark_at, mark = excluded.mark, as_of = excluded.as_of`,
			b.Node, int64(p.Position), int64(p.Mark.At), p.Mark.Sum[:], nanos(p.AsOf))
		return err
	})
	if err == nil {
		l.seen(b.Node, b.Through.AsOf)
	}
	return err
}

// insertClaims inserts claims in the order of their key, which lets those of
// neighbouring users share a page while it is at hand. The sort is stable: of a
// claim that is there twice, the first stays.
func insertClaims(ctx context.Context, tx *sql.Tx, claims []ledger.ClaimRow) error {
	sorted := make([]*ledger.ClaimRow, len(claims))
	for i := range claims {
		sorted[i] = &claims[i]
	}
	slices.SortStableFunc(sorted, func(a, b *ledger.ClaimRow) int { return cmp.Compare(a.User, b.User) })
	var many *sql.Stmt
	args := make([]any, 0, rowsPerInsert*claimColumns)
	for len(sorted) > 0 {
		n := min(len(sorted), rowsPerInsert)
		args = args[:0]
		for _, c := range sorted[:n] {
			args = append(args, c.User, c.ID[:], c.Node, nanos(c.ClaimedAt), int64(c.At), c.Campaign, c.Scene, c.Stage, c.Gift)
		}
		sorted = sorted[n:]
		var err error
		switch {
		case n < rowsPerInsert:
			_, err = tx.ExecContext(ctx, insertClaimsSQL(n), args...)
		case many == nil:
			if many, err = tx.PrepareContext(ctx, insertClaimsSQL(n)); err != nil {
				return err
			}
			defer many.Close()
			fallthrough
		default:
			_, err = many.ExecContext(ctx, args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func insertClaimsSQL(rows int) string {
	const row = ", (?, ?, ?, ?, ?, ?, ?, ?, ?)"
	return "INSERT INTO claims (user, claim_id, node, claimed_at, position, campaign, scene, stage, gift) VALUES " +
		strings.Repeat(row, rows)[len(", "):] + " ON CONFLICT DO NOTHING"
}

// Reset implements ledger.Store. Where the file is damaged it is replaced, and
// what was derived from other nodes' logs goes with it.
func (l *Ledger) Reset(ctx context.Context, node string) error {
	err := l.derived.sound()
	if err == nil {
		err = l.forget(ctx, node)
	}
	if errors.Is(err, ledger.ErrDamaged) {
		err = l.derived.replace(ctx, err)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	clear(l.asOf)
	l.mu.Unlock()
	return l.loadAsOf(ctx)
}

// forget deletes what was derived from a node's log.
func (l *Ledger) forget(ctx context.Context, node string) error {
	return l.derived.writing(ctx, func(tx *sql.Tx) error {
		var others int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM followed WHERE node <> ?", node).Scan(&others); err != nil {
			return err
		}
		for _, table := range []string{"claims", "switched", "followed"} {
			// Without a WHERE, SQLite drops the pages unread.
			query, args := "DELETE FROM "+table, []any(nil)
			if others > 0 {
				query, args = query+" WHERE node = ?", []any{node}
			}
			if _, err := tx.ExecContext(ctx, query, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Seen implements ledger.Store, in memory: this process is the only one that
// follows into these files. A follower at rest learns here of damage that a
// reader has met.
func (l *Ledger) Seen(_ context.Context, node string, asOf time.Time) error {
	if err := l.derived.sound(); err != nil {
		return err
	}
	l.seen(node, asOf)
	return nil
}

func (l *Ledger) seen(node string, asOf time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !asOf.IsZero() {
		l.asOf[node] = asOf
	}
}

func (l *Ledger) loadAsOf(ctx context.Context) error {
	return l.derived.reading(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "SELECT node, as_of FROM followed")
		return each(rows, err, func() error {
			var node string
			var asOf int64
			err := rows.Scan(&node, &asOf)
			l.seen(node, fromNanos(asOf))
			return err
		})
	})
}

// oldestAsOf is the time before which the claims of every node are known.
func (l *Ledger) oldestAsOf() (oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.asOf {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	return oldest
}
