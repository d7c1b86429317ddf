package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
)

// queueAsOf reads the time before which the logs of all nodes are known. It goes
// before the reads that it is said of: a time read first promises nothing that
// they do not hold. Where no node is left to wait for, all that there is was known
// when the last of them was looked at.
func queueAsOf(b *pgx.Batch, asOf *time.Time) {
	b.Queue("SELECT coalesce((SELECT min(as_of) FROM lags), (SELECT max(as_of) FROM followed), 0)").QueryRow(func(row pgx.Row) error {
		var n int64
		err := row.Scan(&n)
		*asOf = fromNanos(n)
		return err
	})
}

// UserClaims implements ledger.Claims.
func (l *Ledger) UserClaims(ctx context.Context, user string, before ledger.Cursor, limit int) (claims []ledger.ClaimRow, asOf time.Time, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	at, id, err := before.ClaimBounds()
	if err != nil {
		return nil, time.Time{}, ledger.Cursor{}, err
	}
	err = l.do(ctx, "list a user's claims", func(ctx context.Context) error {
		b := new(pgx.Batch)
		queueAsOf(b, &asOf)
		// Where several nodes took a claim, the first of its rows stands for it.
		// Counted, it is looked up for the rows of the page; as a NOT EXISTS it may be
		// planned as a join with all claims.
		b.Queue(`
			SELECT claim_id, claimed_at, node, position, campaign, scene, stage, gift FROM claims c
			WHERE user_id = $1 AND (claimed_at, claim_id) < ($2, $3) AND (
				SELECT count(*) FROM claims d WHERE d.claim_id = c.claim_id AND (d.claimed_at, d.node) < (c.claimed_at, c.node)) = 0
			ORDER BY claimed_at DESC, claim_id DESC LIMIT $4`, text(user), at, [16]byte(id), limit+1).Query(func(rows pgx.Rows) error {
			return each(rows, nil, func(row pgx.Row) error {
				c := ledger.ClaimRow{User: user}
				var at int64
				err := row.Scan((*[16]byte)(&c.ID), &at, &c.Node, &c.At, &c.Campaign, &c.Scene, &c.Stage, &c.Gift)
				c.ClaimedAt = fromNanos(at)
				claims = append(claims, c)
				return err
			})
		})
		return l.pool.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, time.Time{}, ledger.Cursor{}, err
	}
	claims, next = ledger.Cut(claims, limit)
	return claims, asOf, next, nil
}

// Switches implements ledger.Switches.
func (l *Ledger) Switches(ctx context.Context) (all []ledger.Switch, err error) {
	err = l.do(ctx, "list switches", func(ctx context.Context) error {
		// Of one node the last in its log, of those the latest by the clocks.
		rows, err := l.pool.Query(ctx, `
			SELECT DISTINCT ON (name) name, mode, who, why, at, node, position FROM (
				SELECT DISTINCT ON (node, name) * FROM switched ORDER BY node, name, position DESC) AS last
			ORDER BY name, at DESC, node DESC`)
		return each(rows, err, func(row pgx.Row) error {
			var s ledger.Switch
			var at int64
			err := row.Scan(&s.Name, &s.Mode, &s.Who, &s.Why, &at, &s.Node, &s.At)
			s.Time = fromNanos(at)
			all = append(all, s)
			return err
		})
	})
	return all, err
}
