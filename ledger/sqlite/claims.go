package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"manna/ledger"
)

// UserClaims implements ledger.Claims.
func (l *Ledger) UserClaims(ctx context.Context, user string, before ledger.Cursor, limit int) (claims []ledger.ClaimRow, asOf time.Time, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	// A time read before the rows promises nothing that they do not hold.
	asOf = l.oldestAsOf()
	at, id, err := before.ClaimBounds()
	if err != nil {
		return nil, time.Time{}, ledger.Cursor{}, err
	}
	err = l.derived.reading(ctx, func(db *sql.DB) error {
		// Where several nodes took a claim, the first of its rows stands for it.
		rows, err := db.QueryContext(ctx, `
			SELECT claim_id, claimed_at, node, position, campaign, scene, stage, gift FROM claims c
			WHERE user = ?1 AND (claimed_at, claim_id) < (?2, ?3) AND NOT EXISTS (
				SELECT 1 FROM claims d WHERE d.user = c.user AND d.claim_id = c.claim_id AND (d.claimed_at, d.node) < (c.claimed_at, c.node))
			ORDER BY claimed_at DESC, claim_id DESC LIMIT ?4`, user, at, id[:], limit+1)
		return each(rows, err, func() error {
			c := ledger.ClaimRow{User: user}
			var id []byte
			var at int64
			err := rows.Scan(&id, &at, &c.Node, &c.At, &c.Campaign, &c.Scene, &c.Stage, &c.Gift)
			copy(c.ID[:], id)
			c.ClaimedAt = fromNanos(at)
			claims = append(claims, c)
			return err
		})
	})
	if err != nil {
		return nil, time.Time{}, ledger.Cursor{}, err
	}
	claims, next = ledger.Cut(claims, limit)
	return claims, asOf, next, nil
}

// Switches implements ledger.Switches.
func (l *Ledger) Switches(ctx context.Context) ([]ledger.Switch, error) {
	var all []ledger.Switch
	err := l.derived.reading(ctx, func(db *sql.DB) error {
		// Beside max(), SQLite gives the other columns of the row that holds it.
		rows, err := db.QueryContext(ctx, "SELECT name, mode, who, why, at, node, max(position) FROM switched GROUP BY node, name")
		return each(rows, err, func() error {
			var s ledger.Switch
			var at int64
			err := rows.Scan(&s.Name, &s.Mode, &s.Who, &s.Why, &at, &s.Node, &s.At)
			s.Time = fromNanos(at)
			all = append(all, s)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b ledger.Switch) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), b.Time.Compare(a.Time), cmp.Compare(b.Node, a.Node))
	})
	return slices.CompactFunc(all, func(a, b ledger.Switch) bool { return a.Name == b.Name }), nil
}
