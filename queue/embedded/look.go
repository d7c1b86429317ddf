package embedded

import (
	"errors"
	"fmt"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

func final(k fallbacklog.Kind) bool {
	return k == fallbacklog.Granted || k == fallbacklog.Refused || k == fallbacklog.Parked
}

// carries reports whether a record of this kind is in a lane's schedule.
func carries(k fallbacklog.Kind) bool {
	return k == fallbacklog.Deferred || k == fallbacklog.Unknown || k == fallbacklog.Reissued
}

// carrierOf finds, among an order's rows, the record that is to be in its lane's
// schedule: the last one that carries, unless an outcome follows. last is the
// order's last row. No row has position 0.
func (q *Queue) carrierOf(order gift.OrderID) (carrier fallbacklog.Position, last fallbacklog.Row, err error) {
	last, ok, err := q.log.Last(order)
	switch {
	case err != nil || !ok:
		return 0, last, err
	case carries(last.Kind):
		return last.At, last, nil
	case last.Kind != fallbacklog.Attempted:
		return 0, last, nil
	}
	// What carried the order into the attempt carries it still.
	rows, err := q.log.Lookup(order)
	if err != nil {
		return 0, last, err
	}
	for _, row := range rows {
		switch {
		case carries(row.Kind):
			carrier = row.At
		case final(row.Kind):
			carrier = 0
		}
	}
	return carrier, last, nil
}

// firstDelivery makes the message of a first delivery.
func (l *Lane) firstDelivery(p *parcel) (*queue.Message, error) {
	if !l.register(p) {
		return nil, nil
	}
	m := &queue.Message{Claim: p.first.claim, Order: p.first.claim.Orders[p.first.index], Origin: p.first.at}
	l.mu.Lock()
	m.Fresh = p.first.at > l.touched
	l.mu.Unlock()
	if m.Fresh {
		return m, nil
	}
	carrier, last, err := l.queue.carrierOf(p.order)
	if err != nil || carrier != 0 || final(last.Kind) {
		return nil, err
	}
	return m, l.queue.attempted(m, last)
}

// scheduled makes the message of an entry of the schedule.
func (l *Lane) scheduled(p *parcel) (*queue.Message, error) {
	q := l.queue
	rec, err := q.log.Read(p.entry.at)
	if err != nil {
		return nil, err
	}
	if rec.Event == nil {
		return nil, fmt.Errorf("position %v: a %v record has no due time", p.entry.at, rec.Kind)
	}
	e := rec.Event
	p.order = e.Order
	if !l.register(p) {
		return nil, nil
	}
	carrier, last, err := q.carrierOf(e.Order)
	if err != nil || carrier != p.entry.at {
		return nil, err
	}
	if rec.Kind == fallbacklog.Reissued {
		m, err := q.reissued(e.Order)
		if err != nil {
			err = l.unexplained(e, err)
		}
		return m, err
	}
	m := &queue.Message{
		Origin: e.Origin, Attempts: e.Attempts, Queries: e.Queries,
		InDoubt: rec.Kind == fallbacklog.Unknown, Began: e.Began,
	}
	if err := q.fill(m, e.Order); err != nil {
		return nil, l.unexplained(e, err)
	}
	return m, q.attempted(m, last)
}

// unexplained lets an order go whose claim the log does not have any more: damage
// took it. One such order must not stop the others; it is told, and a claim that
// is found again can be reissued. Any other error stands.
func (l *Lane) unexplained(e *fallbacklog.Event, err error) error {
	if !errors.Is(err, fallbacklog.ErrNotFound) {
		return err
	}
	l.queue.opts.Logger.Error("an order waits whose claim is not in the log; it is left alone", "lane", l.partner, "order_id", e.Order, "claim_id", e.Claim, "err", err)
	return nil
}

// fill reads the claim of a message. Repair lays records elsewhere, so where the
// claim is not at its place it is looked up.
func (q *Queue) fill(m *queue.Message, order gift.OrderID) error {
	rec, err := q.log.Read(m.Origin)
	if err == nil && rec.Claim != nil {
		if o, ok := rec.Claim.Order(order); ok {
			m.Claim, m.Order = rec.Claim, o
			return nil
		}
	}
	s, err := q.log.Order(order)
	if err != nil {
		return fmt.Errorf("claim of order %v: %w", order, err)
	}
	m.Claim, m.Order, m.Origin = s.Claim, s.Order, s.Origin
	return nil
}

// attempted marks a message whose order's last record says that an attempt began
// and nothing came of it.
func (q *Queue) attempted(m *queue.Message, last fallbacklog.Row) error {
	if last.Kind != fallbacklog.Attempted {
		return nil
	}
	rec, err := q.log.Read(last.At)
	if err != nil {
		return err
	}
	m.InDoubt = true
	m.Attempts, m.Queries = max(m.Attempts, rec.Event.Attempts), max(m.Queries, rec.Event.Queries)
	m.Began = rec.Event.Began
	if m.Began.IsZero() {
		m.Began = rec.Time
	}
	return nil
}

// reissued makes the message of a reissued order: where it stands is told by its
// whole story. There is no message where it is settled.
func (q *Queue) reissued(order gift.OrderID) (*queue.Message, error) {
	s, err := q.log.Order(order)
	if err != nil || s.State.Final() {
		return nil, err
	}
	m := &queue.Message{
		Claim: s.Claim, Order: s.Order, Origin: s.Origin,
		Attempts: s.Attempts, Queries: s.Queries, Began: s.Began,
	}
	// A reissue does not end an attempt that is in doubt; an outcome does.
	for _, rec := range s.Records {
		if rec.Kind != fallbacklog.Reissued {
			m.InDoubt = rec.Kind == fallbacklog.Unknown || rec.Kind == fallbacklog.Attempted
		}
	}
	return m, nil
}
