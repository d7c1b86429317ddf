package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger"
)

// Order implements ledger.Outcomes.
func (l *Ledger) Order(ctx context.Context, id gift.OrderID) (ledger.OrderRow, error) {
	var asOf time.Time
	var records []ledger.ClaimRow
	var events map[gift.OrderID][]ledger.OrderEvent
	err := l.do(ctx, "read an order", func(ctx context.Context) error {
		b := new(pgx.Batch)
		queueAsOf(b, &asOf)
		queueRecords(b, "(claim_id, node) IN (SELECT claim_id, node FROM orders WHERE order_id = $1)", id, &records)
		queueOutcomes(b, []gift.OrderID{id}, &events)
		if err := l.pool.SendBatch(ctx, b).Close(); err != nil || len(records) < 2 {
			return err
		}
		// What the records' other orders came to tells which of them stands.
		return l.readOutcomes(ctx, records, &events)
	})
	if err != nil {
		return ledger.OrderRow{}, err
	}
	known := events[id]
	stands := ledger.Stands(records, events)
	if stands < 0 && len(known) == 0 {
		return ledger.OrderRow{}, fmt.Errorf("order %v: %w", id, ledger.ErrNotFound)
	}
	row := ledger.OrderRow{Order: gift.Order{ID: id}, OrderState: ledger.Fold(known), Events: known, AsOf: asOf}
	if stands < 0 {
		row.Order.Partner, row.Claim.ID, row.Claim.Campaign = known[0].Partner, known[0].Claim, known[0].Campaign
		return row, nil
	}
	row.Claim = records[stands]
	for _, o := range row.Claim.Orders {
		if o.ID == id {
			row.Order = o
		}
	}
	row.Claim.Orders = nil
	if row.Updated.IsZero() {
		row.Updated = row.Claim.ClaimedAt
	}
	return row, nil
}

// Claim implements ledger.Outcomes.
func (l *Ledger) Claim(ctx context.Context, id gift.ClaimID) (s ledger.ClaimStanding, err error) {
	var records []ledger.ClaimRow
	err = l.do(ctx, "read a claim", func(ctx context.Context) error {
		b := new(pgx.Batch)
		queueAsOf(b, &s.AsOf)
		queueRecords(b, "claim_id = $1", id, &records)
		if err := l.pool.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return l.readOutcomes(ctx, records, &s.Events)
	})
	if err != nil {
		return ledger.ClaimStanding{}, err
	}
	stands := ledger.Stands(records, s.Events)
	if stands < 0 {
		return ledger.ClaimStanding{}, fmt.Errorf("claim %v: %w", id, ledger.ErrNotFound)
	}
	s.Claim = records[stands]
	for _, o := range s.Claim.Orders {
		state := ledger.Fold(s.Events[o.ID])
		if state.Updated.IsZero() {
			state.Updated = s.Claim.ClaimedAt
		}
		s.Orders = append(s.Orders, state)
	}
	return s, nil
}

// queueRecords reads the nodes' records of a claim.
func queueRecords(b *pgx.Batch, where string, id [16]byte, records *[]ledger.ClaimRow) {
	b.Queue(`SELECT claim_id, node, user_id, claimed_at, position, campaign, scene, stage, gift, deliver_by, orders::text FROM claims
		WHERE `+where, id).Query(func(rows pgx.Rows) error {
		*records = nil
		return each(rows, nil, func(row pgx.Row) error {
			var c ledger.ClaimRow
			var at, by int64
			var orders []byte
			if err := row.Scan((*[16]byte)(&c.ID), &c.Node, &c.User, &at, &c.At, &c.Campaign, &c.Scene, &c.Stage, &c.Gift, &by, &orders); err != nil {
				return err
			}
			c.ClaimedAt, c.DeliverBy = fromNanos(at), fromNanos(by)
			if err := json.Unmarshal(orders, &c.Orders); err != nil {
				return fmt.Errorf("orders of claim %v: %w", c.ID, err)
			}
			*records = append(*records, c)
			return nil
		})
	})
}

// readOutcomes reads what is known of the orders of records.
func (l *Ledger) readOutcomes(ctx context.Context, records []ledger.ClaimRow, events *map[gift.OrderID][]ledger.OrderEvent) error {
	var ids []gift.OrderID
	for i := range records {
		for _, o := range records[i].Orders {
			ids = append(ids, o.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	b := new(pgx.Batch)
	queueOutcomes(b, ids, events)
	return l.pool.SendBatch(ctx, b).Close()
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
