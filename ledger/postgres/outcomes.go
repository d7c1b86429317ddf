package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger"
)

// Order implements ledger.Outcomes.
func (l *Ledger) Order(ctx context.Context, id gift.OrderID) (ledger.OrderRow, error) {
	var asOf time.Time
	var claim *ledger.ClaimRow
	var events map[gift.OrderID][]ledger.OrderEvent
	err := l.do(ctx, "read an order", func(ctx context.Context) error {
		b := new(pgx.Batch)
		queueAsOf(b, &asOf)
		queueClaim(b, "claim_id = (SELECT claim_id FROM orders WHERE order_id = $1 LIMIT 1)", id, &claim)
		queueOutcomes(b, []gift.OrderID{id}, &events)
		return l.pool.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return ledger.OrderRow{}, err
	}
	known := events[id]
	if claim == nil && len(known) == 0 {
		return ledger.OrderRow{}, fmt.Errorf("order %v: %w", id, ledger.ErrNotFound)
	}
	row := ledger.OrderRow{Order: gift.Order{ID: id}, OrderState: ledger.Fold(known), Events: known, AsOf: asOf}
	if claim == nil {
		row.Order.Partner, row.Claim.ID, row.Claim.Campaign = known[0].Partner, known[0].Claim, known[0].Campaign
		return row, nil
	}
	for _, o := range claim.Orders {
		if o.ID == id {
			row.Order = o
		}
	}
	row.Claim, row.Claim.Orders = *claim, nil
	if row.Updated.IsZero() {
		row.Updated = claim.ClaimedAt
	}
	return row, nil
}

// Claim implements ledger.Outcomes.
func (l *Ledger) Claim(ctx context.Context, id gift.ClaimID) (s ledger.ClaimStanding, err error) {
	var claim *ledger.ClaimRow
	var events map[gift.OrderID][]ledger.OrderEvent
	err = l.do(ctx, "read a claim", func(ctx context.Context) error {
		b := new(pgx.Batch)
		queueAsOf(b, &s.AsOf)
		queueClaim(b, "claim_id = $1", id, &claim)
		if err := l.pool.SendBatch(ctx, b).Close(); err != nil || claim == nil {
			return err
		}
		ids := make([]gift.OrderID, len(claim.Orders))
		for i := range claim.Orders {
			ids[i] = claim.Orders[i].ID
		}
		b = new(pgx.Batch)
		queueOutcomes(b, ids, &events)
		return l.pool.SendBatch(ctx, b).Close()
	})
	switch {
	case err != nil:
		return ledger.ClaimStanding{}, err
	case claim == nil:
		return ledger.ClaimStanding{}, fmt.Errorf("claim %v: %w", id, ledger.ErrNotFound)
	}
	s.Claim, s.Events = *claim, events
	for i := range claim.Orders {
		state := ledger.Fold(events[claim.Orders[i].ID])
		if state.Updated.IsZero() {
			state.Updated = claim.ClaimedAt
		}
		s.Orders = append(s.Orders, state)
	}
	return s, nil
}

// queueClaim reads a claim, of several nodes' rows the first; claim stays nil where
// there is none.
func queueClaim(b *pgx.Batch, where string, id [16]byte, claim **ledger.ClaimRow) {
	b.Queue(`SELECT claim_id, node, user_id, claimed_at, position, campaign, scene, stage, gift, deliver_by, orders::text FROM claims
		WHERE `+where+` ORDER BY claimed_at, node LIMIT 1`, id).QueryRow(func(row pgx.Row) error {
		c := new(ledger.ClaimRow)
		var at, by int64
		var orders []byte
		err := row.Scan((*[16]byte)(&c.ID), &c.Node, &c.User, &at, &c.At, &c.Campaign, &c.Scene, &c.Stage, &c.Gift, &by, &orders)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		c.ClaimedAt, c.DeliverBy = fromNanos(at), fromNanos(by)
		if err := json.Unmarshal(orders, &c.Orders); err != nil {
			return fmt.Errorf("orders of claim %v: %w", c.ID, err)
		}
		*claim = c
		return nil
	})
}

func queueOutcomes(b *pgx.Batch, ids []gift.OrderID, events *map[gift.OrderID][]ledger.OrderEvent) {
	*events = make(map[gift.OrderID][]ledger.OrderEvent)
	b.Queue(`SELECT order_id, node, kind, claim_id, campaign, partner, at, position, attempts, queries, due, reference, voucher, code, reason, run
		FROM outcomes WHERE order_id = ANY($1) ORDER BY order_id, node, sort`, raw(ids)).Query(func(rows pgx.Rows) error {
		return each(rows, nil, func(row pgx.Row) error {
			var e ledger.OrderEvent
			var at, due int64
			err := row.Scan((*[16]byte)(&e.Order), &e.Node, &e.Kind, (*[16]byte)(&e.Claim), &e.Campaign, &e.Partner, &at, &e.At,
				&e.Attempts, &e.Queries, &due, &e.Reference, &e.Voucher, &e.Code, &e.Reason, &e.Run)
			e.Time, e.Due = fromNanos(at), fromNanos(due)
			(*events)[e.Order] = append((*events)[e.Order], e)
			return err
		})
	})
}

// raw gives ids as pgx knows them.
func raw[ID ~[16]byte](ids []ID) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

// Lags implements ledger.Outcomes.
func (l *Ledger) Lags(ctx context.Context) (lags []ledger.Lag, err error) {
	err = l.do(ctx, "read how far the nodes' logs were taken in", func(ctx context.Context) error {
		rows, err := l.pool.Query(ctx, "SELECT node, position, as_of FROM lags ORDER BY as_of, node")
		return each(rows, err, func(row pgx.Row) error {
			var lag ledger.Lag
			var asOf int64
			err := row.Scan(&lag.Node, &lag.Position, &asOf)
			lag.AsOf = fromNanos(asOf)
			lags = append(lags, lag)
			return err
		})
	})
	return lags, err
}
