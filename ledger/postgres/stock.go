package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
)

// parting makes a call that changes leases of a gift. It has the gift's row to
// itself, so that the sum of the leases stays what it read.
func (l *Ledger) parting(ctx context.Context, what string, k ledger.StockKey, call func(ctx context.Context, tx pgx.Tx, p ledger.Pool, now time.Time) error) error {
	return l.writing(ctx, what+" of "+k.Campaign+"/"+k.Gift, func(ctx context.Context, tx pgx.Tx) error {
		now, err := l.now(ctx, tx)
		if err != nil {
			return err
		}
		var p ledger.Pool
		b := new(pgx.Batch)
		b.Queue("INSERT INTO stock (campaign, gift, refunded) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", k.Campaign, k.Gift)
		b.Queue("SELECT refunded FROM stock WHERE campaign = $1 AND gift = $2 FOR UPDATE", k.Campaign, k.Gift).QueryRow(func(row pgx.Row) error {
			return row.Scan(&p.Refunded)
		})
		b.Queue(heldQuery, k.Campaign, k.Gift).QueryRow(func(row pgx.Row) error { return row.Scan(&p.Held) })
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return call(ctx, tx, p, now)
	})
}

const heldQuery = "SELECT coalesce(sum(held), 0)::bigint FROM leases WHERE campaign = $1 AND gift = $2"

// leaseOf reads a node's lease; one that was never made holds nothing.
func leaseOf(ctx context.Context, q querier, k ledger.StockKey, node string) (lease ledger.Lease, found bool, err error) {
	lease.Node = node
	var updated int64
	err = q.QueryRow(ctx, "SELECT held, version, updated FROM leases WHERE campaign = $1 AND gift = $2 AND node = $3", k.Campaign, k.Gift, node).
		Scan(&lease.Held, &lease.Version, &updated)
	lease.Updated = fromNanos(updated)
	if errors.Is(err, pgx.ErrNoRows) {
		return lease, false, nil
	}
	return lease, err == nil, err
}

func writeLease(ctx context.Context, tx pgx.Tx, k ledger.StockKey, lease *ledger.Lease, now time.Time) error {
	// The version rises with every write: a Return that is still on its way is then
	// refused.
	lease.Version++
	lease.Updated = now
	_, err := tx.Exec(ctx, `INSERT INTO leases (campaign, gift, node, held, version, updated) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (campaign, gift, node) DO UPDATE SET held = excluded.held, version = excluded.version, updated = excluded.updated`,
		k.Campaign, k.Gift, lease.Node, lease.Held, lease.Version, nanos(now))
	return err
}

// Lease implements ledger.Stock.
func (l *Ledger) Lease(ctx context.Context, k ledger.StockKey, h ledger.Holder, ask ledger.Ask) (lease ledger.Lease, err error) {
	var overdrawn error
	err = l.parting(ctx, "lease stock", k, func(ctx context.Context, tx pgx.Tx, p ledger.Pool, now time.Time) error {
		if err := current(ctx, tx, h); err != nil {
			return err
		}
		if lease, _, err = leaseOf(ctx, tx, k, h.Node); err != nil {
			return err
		}
		overdrawn = overdraw(k, &lease, ask.Used)
		if more := min(ask.UpTo-lease.Held, p.Free(ask.Total)); overdrawn == nil && more > 0 {
			lease.Held += more
		}
		return writeLease(ctx, tx, k, &lease, now)
	})
	if err == nil {
		err = overdrawn
	}
	return lease, err
}

// overdraw raises a lease to what was used, if that is more, and says so.
func overdraw(k ledger.StockKey, lease *ledger.Lease, used int64) error {
	if used <= lease.Held {
		return nil
	}
	held := lease.Held
	lease.Held = used
	return fmt.Errorf("node %s handed out %d of %s/%s and held %d: %w", lease.Node, used, k.Campaign, k.Gift, held, ledger.ErrOverdrawn)
}

// Return implements ledger.Stock.
func (l *Ledger) Return(ctx context.Context, k ledger.StockKey, h ledger.Holder, seen ledger.Lease, keep int64) (lease ledger.Lease, err error) {
	if keep < 0 {
		return lease, fmt.Errorf("a lease of %d gifts cannot be kept", keep)
	}
	err = l.parting(ctx, "return stock", k, func(ctx context.Context, tx pgx.Tx, _ ledger.Pool, now time.Time) error {
		if err := current(ctx, tx, h); err != nil {
			return err
		}
		if lease, _, err = leaseOf(ctx, tx, k, h.Node); err != nil {
			return err
		}
		if lease.Version != seen.Version || keep > lease.Held {
			return fmt.Errorf("node %s holds %d of %s/%s at version %d, not %d at version %d: %w",
				h.Node, lease.Held, k.Campaign, k.Gift, lease.Version, seen.Held, seen.Version, ledger.ErrLeaseChanged)
		}
		lease.Held = keep
		return writeLease(ctx, tx, k, &lease, now)
	})
	return lease, err
}

// Settle implements ledger.Stock.
func (l *Ledger) Settle(ctx context.Context, k ledger.StockKey, h ledger.Holder, used int64) (lease ledger.Lease, err error) {
	if used < 0 {
		return lease, fmt.Errorf("node %s cannot have handed out %d gifts", h.Node, used)
	}
	var overdrawn error
	err = l.parting(ctx, "settle stock", k, func(ctx context.Context, tx pgx.Tx, _ ledger.Pool, now time.Time) error {
		overdrawn = nil
		// The row is locked, so that no process joins before this is committed. What is
		// left of a log that is gone has none.
		n, err := nodeOf(ctx, tx, h.Node, " FOR SHARE")
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		var found bool
		if lease, found, err = leaseOf(ctx, tx, k, h.Node); err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("node %s has no lease of %s/%s: %w", h.Node, k.Campaign, k.Gift, ledger.ErrNotFound)
		}
		if n.State == ledger.NodeUp {
			return fmt.Errorf("node %s was seen %s ago: %w; stop it, or declare it lost", h.Node, n.Silent(now).Round(time.Second), ledger.ErrHeld)
		}
		if h.Epoch != 0 && h.Epoch != n.Epoch {
			return fmt.Errorf("node %s has been started again since its log was read: %w", h.Node, ledger.ErrLeaseChanged)
		}
		if lease.Held == used {
			return nil
		}
		overdrawn = overdraw(k, &lease, used)
		lease.Held = used
		return writeLease(ctx, tx, k, &lease, now)
	})
	if err == nil {
		err = overdrawn
	}
	return lease, err
}

// Leases implements ledger.Stock.
func (l *Ledger) Leases(ctx context.Context, k ledger.StockKey) (p ledger.Pool, leases []ledger.Lease, err error) {
	err = l.do(ctx, "list leases", func(ctx context.Context) error {
		rows, err := l.pool.Query(ctx, `
			SELECT coalesce(s.refunded, 0), coalesce(l.node, ''), coalesce(l.held, 0), coalesce(l.version, 0), coalesce(l.updated, 0)
			FROM (SELECT * FROM stock WHERE campaign = $1 AND gift = $2) AS s
			LEFT JOIN leases l USING (campaign, gift) ORDER BY l.node`, k.Campaign, k.Gift)
		return each(rows, err, func(row pgx.Row) error {
			var lease ledger.Lease
			var updated int64
			if err := row.Scan(&p.Refunded, &lease.Node, &lease.Held, &lease.Version, &updated); err != nil || lease.Version == 0 {
				return err
			}
			lease.Updated = fromNanos(updated)
			p.Held += lease.Held
			leases = append(leases, lease)
			return nil
		})
	})
	return p, leases, err
}

// Estate implements ledger.Stock.
func (l *Ledger) Estate(ctx context.Context, holder string) (e ledger.Estate, err error) {
	err = l.do(ctx, "read the leases of "+holder, func(ctx context.Context) error {
		// One look at all of it: what is read of the node is of the process that has the leases.
		return pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			e, err = estateOf(ctx, tx, holder)
			return err
		})
	})
	return e, err
}

func estateOf(ctx context.Context, tx pgx.Tx, holder string) (e ledger.Estate, err error) {
	e.Holder.Node = holder
	if ledger.IsFormer(holder) {
		err = tx.QueryRow(ctx, "SELECT home, log_end, ended FROM formers WHERE holder = $1", holder).Scan(&e.Home, &e.LogEnd, &e.Ended)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil // an older release made it, and noted nothing of its log
		}
	} else {
		var n ledger.Node
		n, err = nodeOf(ctx, tx, holder, "")
		e.Holder.Epoch, e.State, e.Home, e.LogEnd, e.Ended = n.Epoch, n.State, n.Home, n.LogEnd, n.Ended
	}
	if err != nil {
		return e, err
	}
	rows, err := tx.Query(ctx, "SELECT campaign, gift, node, held, version, updated FROM leases WHERE node = $1 ORDER BY campaign, gift", holder)
	err = each(rows, err, func(row pgx.Row) error {
		var g ledger.GiftLease
		var updated int64
		err := row.Scan(&g.Campaign, &g.Gift, &g.Node, &g.Held, &g.Version, &updated)
		g.Updated = fromNanos(updated)
		e.Leases = append(e.Leases, g)
		return err
	})
	if err != nil {
		return e, err
	}
	if ledger.IsFormer(holder) {
		if len(e.Leases) == 0 {
			return e, fmt.Errorf("nobody holds leases as %s: %w", holder, ledger.ErrNotFound)
		}
		return e, nil
	}
	rows, err = tx.Query(ctx, "SELECT DISTINCT node FROM leases WHERE starts_with(node, $1) ORDER BY node", holder)
	return e, each(rows, err, func(row pgx.Row) error {
		var former string
		err := row.Scan(&former)
		if of, ok := ledger.FormerOf(former); ok && of == holder {
			e.Formers = append(e.Formers, former)
		}
		return err
	})
}
