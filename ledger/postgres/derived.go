package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/fallbacklog"
	"manna/ledger"
)

// WantsOutcomes implements ledger.Store.
func (l *Ledger) WantsOutcomes() bool { return true }

// Position is how far a node's log has been taken in.
func (l *Ledger) Position(ctx context.Context, node string) (fallbacklog.Position, error) {
	p, err := l.Place(ctx, node)
	return p.Position, err
}

// Place implements ledger.Store.
func (l *Ledger) Place(ctx context.Context, node string) (p ledger.Place, err error) {
	err = l.do(ctx, "read the place in the log of "+node, func(ctx context.Context) error {
		var asOf int64
		var mark []byte
		err := l.pool.QueryRow(ctx, "SELECT position, mark_at, mark, as_of FROM followed WHERE node = $1", node).Scan(&p.Position, &p.Mark.At, &mark, &asOf)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		copy(p.Mark.Sum[:], mark)
		p.AsOf = fromNanos(asOf)
		return err
	})
	return p, err
}

// Apply implements ledger.Store. Two followers of one log are told apart by the
// node's row, which the transaction locks.
func (l *Ledger) Apply(ctx context.Context, b *ledger.Batch) error {
	return l.within(ctx, batchFactor*l.opts.Timeout, "take in a batch of "+b.Node, func(ctx context.Context) error {
		return l.transact(ctx, func(ctx context.Context, tx pgx.Tx) error { return l.apply(ctx, tx, b) })
	})
}

func (l *Ledger) apply(ctx context.Context, tx pgx.Tx, b *ledger.Batch) error {
	var at fallbacklog.Position
	begin := new(pgx.Batch)
	begin.Queue("SELECT set_config('statement_timeout', $1, true)", fmt.Sprint((batchFactor * l.opts.Timeout).Milliseconds()))
	// The place goes with the rows: what a crash of the server takes is read again.
	begin.Queue("SET LOCAL synchronous_commit = off")
	begin.Queue("INSERT INTO followed (node, position, mark_at, mark, as_of) VALUES ($1, 0, 0, '', 0) ON CONFLICT DO NOTHING", b.Node)
	begin.Queue("SELECT position FROM followed WHERE node = $1 FOR UPDATE", b.Node).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
	if err := tx.SendBatch(ctx, begin).Close(); err != nil {
		return err
	}
	if at != b.From {
		return fmt.Errorf("node %s: a batch from %v meets the place %v: %w", b.Node, b.From, at, ledger.ErrMoved)
	}
	rows := new(pgx.Batch)
	if err := queueClaims(rows, b); err != nil {
		return err
	}
	queueEvents(rows, b.Node, b.Events)
	queueRefusals(rows, b)
	queueSwitches(rows, b)
	p := &b.Through
	rows.Queue("UPDATE followed SET position = $2, mark_at = $3, mark = $4, as_of = $5 WHERE node = $1",
		b.Node, int64(p.Position), int64(p.Mark.At), p.Mark.Sum[:], nanos(p.AsOf))
	// Commit point: the rows and the place, by the caller.
	return tx.SendBatch(ctx, rows).Close()
}

// queueClaims inserts claims in the order of their keys, so that neighbours share a
// page while it is at hand. The sort is stable: of a claim that is there twice, the
// first stays.
func queueClaims(rows *pgx.Batch, b *ledger.Batch) error {
	if len(b.Claims) == 0 {
		return nil
	}
	sorted := make([]*ledger.ClaimRow, len(b.Claims))
	for i := range b.Claims {
		sorted[i] = &b.Claims[i]
	}
	slices.SortStableFunc(sorted, func(x, y *ledger.ClaimRow) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	n := len(sorted)
	ids, at, positions, by := make([][16]byte, n), make([]int64, n), make([]int64, n), make([]int64, n)
	users, campaigns, scenes, stages, gifts, orders := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	var orderIDs, claimsOf [][16]byte
	for i, c := range sorted {
		ids[i], at[i], positions[i], by[i] = c.ID, nanos(c.ClaimedAt), int64(c.At), nanos(c.DeliverBy)
		users[i], campaigns[i], scenes[i], stages[i], gifts[i] = text(c.User), c.Campaign, c.Scene, c.Stage, c.Gift
		list, err := json.Marshal(c.Orders)
		if err != nil {
			return fmt.Errorf("orders of claim %v: %w", c.ID, err)
		}
		orders[i] = text(string(list))
		for _, o := range c.Orders {
			orderIDs, claimsOf = append(orderIDs, o.ID), append(claimsOf, c.ID)
		}
	}
	rows.Queue(`
		INSERT INTO claims (claim_id, node, user_id, claimed_at, position, campaign, scene, stage, gift, deliver_by, orders)
		SELECT id, $1, user_id, at, position, campaign, scene, stage, gift, by, orders::json
		FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[])
			AS t (id, user_id, at, position, campaign, scene, stage, gift, by, orders)
		ON CONFLICT DO NOTHING`, b.Node, ids, users, at, positions, campaigns, scenes, stages, gifts, by, orders)
	rows.Queue(`
		INSERT INTO orders (order_id, node, claim_id) SELECT id, $1, claim FROM unnest($2::uuid[], $3::uuid[]) AS t (id, claim) ORDER BY id
		ON CONFLICT DO NOTHING`, b.Node, orderIDs, claimsOf)
	return nil
}

// queueEvents replaces what is known of orders by what the batch says, but no
// grant.
func queueEvents(rows *pgx.Batch, node string, events []ledger.OrderEvent) {
	if len(events) == 0 {
		return
	}
	sorted := slices.Clone(events)
	slices.SortFunc(sorted, func(x, y ledger.OrderEvent) int {
		return cmp.Or(bytes.Compare(x.Order[:], y.Order[:]), cmp.Compare(x.Sort(), y.Sort()))
	})
	n := len(sorted)
	orders, claims := make([][16]byte, n), make([][16]byte, n)
	sorts, kinds, attempts, queries := make([]int16, n), make([]int16, n), make([]int32, n), make([]int32, n)
	at, positions, due := make([]int64, n), make([]int64, n), make([]int64, n)
	campaigns, partners, references, vouchers := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	codes, reasons, runs := make([]string, n), make([]string, n), make([]string, n)
	for i := range sorted {
		e := &sorted[i]
		orders[i], claims[i], sorts[i], kinds[i] = e.Order, e.Claim, int16(e.Sort()), int16(e.Kind)
		attempts[i], queries[i], at[i], positions[i], due[i] = int32(e.Attempts), int32(e.Queries), nanos(e.Time), int64(e.At), nanos(e.Due)
		campaigns[i], partners[i], references[i], vouchers[i] = text(e.Campaign), text(e.Partner), text(e.Reference), text(e.Voucher)
		codes[i], reasons[i], runs[i] = text(e.Code), text(e.Reason), text(e.Run)
	}
	rows.Queue(`
		INSERT INTO outcomes AS known (order_id, node, sort, kind, claim_id, campaign, partner, at, position, attempts, queries, due, reference, voucher, code, reason, run)
		SELECT order_id, $1, sort, kind, claim_id, campaign, partner, at, position, attempts, queries, due, reference, voucher, code, reason, run
		FROM unnest($2::uuid[], $3::smallint[], $4::smallint[], $5::uuid[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
			$10::int[], $11::int[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[])
			AS t (order_id, sort, kind, claim_id, campaign, partner, at, position, attempts, queries, due, reference, voucher, code, reason, run)
		ON CONFLICT (order_id, node, sort) DO UPDATE SET
			kind = excluded.kind, claim_id = excluded.claim_id, campaign = excluded.campaign, partner = excluded.partner,
			at = excluded.at, position = excluded.position, attempts = excluded.attempts, queries = excluded.queries, due = excluded.due,
			reference = excluded.reference, voucher = excluded.voucher, code = excluded.code, reason = excluded.reason, run = excluded.run
		WHERE known.kind <> $18`,
		node, orders, sorts, kinds, claims, campaigns, partners, at, positions, attempts, queries, due, references, vouchers, codes, reasons, runs,
		int16(fallbacklog.Granted))
}

func queueSwitches(rows *pgx.Batch, b *ledger.Batch) {
	for _, s := range b.Switches {
		rows.Queue("INSERT INTO switched (node, position, name, mode, who, why, at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			b.Node, int64(s.At), text(s.Name), text(s.Mode), text(s.Who), text(s.Why), nanos(s.Time))
	}
}

// Seen implements ledger.Store. Other nodes read it, so it is a row and no memory.
func (l *Ledger) Seen(ctx context.Context, node string, asOf time.Time) error {
	return l.writing(ctx, "note that the log of "+node+" was seen", func(ctx context.Context, tx pgx.Tx) error {
		b := new(pgx.Batch)
		b.Queue("SET LOCAL synchronous_commit = off")
		b.Queue(`INSERT INTO followed AS f (node, position, mark_at, mark, as_of) VALUES ($1, 0, 0, '', $2)
			ON CONFLICT (node) DO UPDATE SET as_of = greatest(f.as_of, excluded.as_of)`, node, nanos(asOf))
		return tx.SendBatch(ctx, b).Close()
	})
}

// Reset implements ledger.Store.
func (l *Ledger) Reset(ctx context.Context, node string) error {
	return l.within(ctx, resetTimeout, "drop what was derived from the log of "+node, func(ctx context.Context) error {
		return l.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
			b := new(pgx.Batch)
			b.Queue("SELECT set_config('statement_timeout', $1, true)", fmt.Sprint(resetTimeout.Milliseconds()))
			for _, table := range []string{"followed", "claims", "orders", "outcomes", "switched"} {
				b.Queue("DELETE FROM "+table+" WHERE node = $1", node)
			}
			return tx.SendBatch(ctx, b).Close()
		})
	})
}
