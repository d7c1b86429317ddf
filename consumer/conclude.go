package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// fullPause is how long a lane waits before it writes an outcome again that met
// a full disk. The outcome is known and must not be lost; the order stays held.
const fullPause = 500 * time.Millisecond

// codeUnknown is the code of an order that is parked because of an attempt whose
// outcome is unknown.
const codeUnknown = "unknown"

// conclude writes an outcome down and lets the order go as the outcome says.
func (d *delivering) conclude(p *Partner, outcome gift.Outcome) step {
	switch o := outcome.(type) {
	case gift.Granted:
		amount := d.m.Order.Amount
		if o.Amount != nil {
			amount = *o.Amount
		}
		return d.final(fallbacklog.Granted, fallbacklog.Event{Reference: o.Reference, Voucher: o.Voucher, Amount: amount, Code: before(o)})
	case gift.Refused:
		return d.final(fallbacklog.Refused, fallbacklog.Event{Code: o.Code, Reason: o.Reason})
	case gift.Deferred:
		d.m.InDoubt = false
		if d.free {
			d.m.Attempts--
		}
		if d.m.Attempts > len(p.Retry) {
			return d.park("exhausted", fmt.Sprintf("%d attempts; the last: %s: %s", d.m.Attempts, o.Code, o.Reason))
		}
		return d.later(fallbacklog.Deferred, o.Code, o.Reason, pause(p.Retry, d.m.Attempts, o.After))
	case gift.Unknown:
		return d.doubt(p, o)
	}
	return d.doubt(p, gift.Unknown{Code: "unreadable", Reason: fmt.Sprintf("adapter returned %T", outcome)})
}

func before(o gift.Granted) string {
	if o.Before {
		return "granted_before"
	}
	return ""
}

// doubt begins, or goes on with, the unknown-outcome protocol.
func (d *delivering) doubt(p *Partner, o gift.Unknown) step {
	d.m.InDoubt = true
	switch t := p.Adapter.Traits(); {
	case !t.Queries && !t.Idempotent:
		return d.park(codeUnknown, fmt.Sprintf("the outcome is unknown (%s: %s), and the partner can neither be asked nor dedupe a repeat", o.Code, o.Reason))
	case d.m.Attempts > len(p.Retry):
		return d.park(codeUnknown, fmt.Sprintf("the outcome is unknown after %d attempts; the last: %s: %s", d.m.Attempts, o.Code, o.Reason))
	}
	return d.later(fallbacklog.Unknown, o.Code, o.Reason, pause(p.Retry, d.m.Attempts, 0))
}

// again puts an order in doubt back, to be asked for once more.
func (d *delivering) again(p *Partner, code, reason string, wish time.Duration) step {
	if d.m.Queries > len(p.Retry)+1 {
		return d.park(codeUnknown, fmt.Sprintf("the outcome is unknown after %d queries; the last: %s: %s", d.m.Queries, code, reason))
	}
	return d.later(fallbacklog.Unknown, code, reason, pause(p.Retry, d.m.Queries, wish))
}

func (d *delivering) park(code, reason string) step {
	if d.partner.Load().Adapter.Traits().Idempotent && d.elsewhere(context.Background()) {
		d.ack()
		return nil
	}
	return d.final(fallbacklog.Parked, fallbacklog.Event{Code: code, Reason: reason})
}

// final commits an outcome after which nothing more is tried.
func (d *delivering) final(kind fallbacklog.Kind, e fallbacklog.Event) step {
	e.Attempts, e.Queries, e.Began = d.m.Attempts, d.m.Queries, d.m.Began
	rec := d.event(kind, e)
	commit := d.append
	if kind == fallbacklog.Refused {
		commit = d.refuse
	}
	if commit(context.Background(), rec) != nil {
		return nil
	}
	d.concluded(kind)
	d.ack()
	if d.now().After(d.m.Claim.DeliverBy) {
		d.c.metrics.overdue.WithLabelValues(d.name).Inc()
		d.overdue.Tell("order_id", d.m.Order.ID, "deliver_by", d.m.Claim.DeliverBy, "state", kind)
	}
	if kind == fallbacklog.Parked {
		d.parked.Tell("order_id", d.m.Order.ID, "code", e.Code, "reason", e.Reason)
	}
	return nil
}

// later commits an outcome after which the order comes back.
func (d *delivering) later(kind fallbacklog.Kind, code, reason string, after time.Duration) step {
	due := d.now().Add(after)
	if now := d.now(); now.After(d.m.Claim.DeliverBy) {
		d.c.metrics.overdue.WithLabelValues(d.name).Inc()
		d.overdue.Tell("order_id", d.m.Order.ID, "deliver_by", d.m.Claim.DeliverBy, "state", kind, "code", code)
	}
	e := fallbacklog.Event{Attempts: d.m.Attempts, Queries: d.m.Queries, Began: d.m.Began, Due: due, Code: code, Reason: reason}
	if d.append(context.Background(), d.event(kind, e)) == nil {
		d.concluded(kind)
		d.deferUntil(due)
	}
	return nil
}

// event completes a record about this order.
func (d *delivering) event(kind fallbacklog.Kind, e fallbacklog.Event) *fallbacklog.Record {
	e.Order, e.Claim, e.Campaign, e.Partner, e.Origin = d.m.Order.ID, d.m.Claim.ID, d.m.Claim.Campaign, d.name, d.m.Origin
	return &fallbacklog.Record{Kind: kind, Time: d.now(), Event: &e}
}

// append writes records in one commit, the order's own last, waiting out a full disk. An error means
// that the log has ended, or ctx before anything was written; the queue has the
// order again after a restart.
func (d *delivering) append(ctx context.Context, recs ...*fallbacklog.Record) error {
	kind := recs[len(recs)-1].Kind
	for {
		err := d.c.opts.Log.Append(ctx, recs...)
		if err == nil {
			d.counts.add(kind)
			d.c.metrics.outcomes.WithLabelValues(d.name, kind.String()).Inc()
			return nil
		}
		if !errors.Is(err, disk.ErrFull) {
			d.unwritten.Tell("order_id", d.m.Order.ID, "kind", kind, "err", err)
			return err
		}
		d.waiting.Tell("order_id", d.m.Order.ID, "kind", kind)
		select {
		case <-time.After(fullPause):
		case <-d.c.opts.Log.Failed():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *delivering) ack() {
	if err := d.source.Ack(context.Background(), d.m); err != nil {
		d.logger.Error("cannot acknowledge a message; after a restart it comes again and is found settled", "order_id", d.m.Order.ID, "err", err)
	}
}

func (d *delivering) deferUntil(due time.Time) {
	if err := d.source.Defer(context.Background(), d.m, due); err != nil {
		d.logger.Error("cannot defer a message; after a restart it comes again and is found deferred", "order_id", d.m.Order.ID, "err", err)
	}
}
