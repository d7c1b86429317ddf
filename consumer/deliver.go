package consumer

import (
	"context"
	"errors"
	"strings"
	"time"

	"manna/breaker"
	"manna/delivery"
	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/queue"
)

// deliver brings one order as far as it gets now. Where ctx ends before a call,
// the message is left as it is and the queue has it again.
func (l *lane) deliver(ctx context.Context, m *queue.Message) {
	d := &delivering{lane: l, m: m, since: heldSince(m.Attempts, m.InDoubt, m.Began, l.c.opts.Now().UTC())}
	if !l.c.enter(m.Order.ID) {
		// Another copy of the order is under way here.
		d.deferUntil(d.now().Add(l.partner.Load().Adapter.Traits().Timeout))
		return
	}
	defer l.c.leave(m.Order.ID)
	// That a message is fresh saves the look-up only where a mistake of the queue,
	// or a claim that a lost guard let in twice, would be harmless.
	if !m.Fresh || !l.partner.Load().Adapter.Traits().Idempotent {
		more, err := d.recall(ctx)
		if err != nil {
			l.unread.Tell("order_id", m.Order.ID, "err", err)
			d.deferUntil(d.now().Add(retryPause))
			return
		}
		if !more {
			return
		}
	}
	step := d.choose(ctx)
	for step != nil {
		step = step(ctx)
	}
}

// delivering is one order on its way through the lane.
type delivering struct {
	*lane
	m       *queue.Message
	marked  bool           // `attempted` is in the log and has no outcome yet
	decided bool           // a person wants the attempt, whatever is in doubt
	free    bool           // a user asked for this attempt: if it fails it spends none
	waits   bool           // it holds the lane up until the ledger answers
	since   time.Time      // the message is held since then
	base    int            // what marks add to the order's count, which begins anew when a person takes it up
	won     ledger.Attempt // the one that was marked last among all consumers
	wonAt   time.Time      // when that was; zero where its call is not to come any more
}

// step does one thing and names the next; nil ends the delivery.
type step func(context.Context) step

// recall looks the order's records up, for it may have been held before. It lets
// the order go where it is final or not due yet; more is true where it is still
// to be worked on.
func (d *delivering) recall(ctx context.Context) (more bool, err error) {
	rows, err := d.c.opts.Log.Lookup(d.m.Order.ID)
	if err != nil {
		return false, err
	}
	state, _ := fallbacklog.StateOf(rows)
	if state == gift.StateParked && d.c.opts.Cluster != nil {
		return d.recallParked(ctx)
	}
	if state.Final() || !d.partner.Load().Adapter.Traits().Idempotent && d.elsewhere(ctx) {
		d.ack()
		return false, nil
	}
	if len(rows) == 0 || len(rows) == 1 && rows[0].Kind == fallbacklog.Claimed {
		return true, nil // nothing but its claim
	}
	story, err := d.c.opts.Log.Told(d.m.Order.ID)
	if err != nil {
		return false, err
	}
	if story.Attempts < d.m.Attempts {
		return true, nil // another node went on with it since
	}
	d.m.Attempts, d.m.Queries, d.m.Began, d.m.InDoubt = story.Attempts, story.Queries, story.Began, story.Doubt
	if story.Open && d.m.Began.Before(d.c.started) {
		// The mark came before the wait for the rate. The call itself may have begun
		// up to the end of the process that made it, and so up to this one's start.
		d.m.Began = d.c.started
	}
	// A person who takes a parked order up again has decided about its doubt, as
	// far as nobody can be asked.
	d.decided = story.State == gift.StateAccepted && !story.Open && strings.HasPrefix(story.Run, fallbacklog.RunPerson)
	last := story.Records[len(story.Records)-1]
	d.free = last.Kind == fallbacklog.Reissued && last.Event.Run == fallbacklog.RunSettle
	if story.Due.After(d.now()) {
		d.deferUntil(story.Due)
		return false, nil
	}
	return true, nil
}

// recallParked looks whether an order that this node has parked was taken up since at
// another.
func (d *delivering) recallParked(ctx context.Context) (more bool, err error) {
	story, err := d.c.opts.Log.Told(d.m.Order.ID)
	if err != nil {
		return false, err
	}
	row, which := d.resumed(ctx, story.Updated)
	switch which {
	case ended:
		d.ack()
		return false, nil
	case unsure:
		d.lookLater()
		return false, nil
	}
	if d.m.Attempts == 0 {
		d.m.InDoubt, d.m.Began = story.Doubt, story.Began
		d.decided = strings.HasPrefix(row.Run, fallbacklog.RunPerson)
	}
	return true, nil
}

// first is where the path begins for this order.
func (d *delivering) first() step {
	if !d.m.InDoubt {
		return d.grant
	}
	switch t := d.partner.Load().Adapter.Traits(); {
	case t.Queries:
		return d.query
	case t.Idempotent || d.decided:
		return d.grant
	}
	return func(ctx context.Context) step {
		return d.last(ctx, func(context.Context) step { return d.parkInDoubt() })
	}
}

func (d *delivering) parkInDoubt() step {
	return d.park(codeUnknown, "the outcome is unknown, and the partner can neither be asked nor dedupe a repeat")
}

// grant makes one attempt.
func (d *delivering) grant(ctx context.Context) step {
	call, p, err := d.admit(ctx, true)
	if taken, ok := errors.AsType[*errTaken](err); ok {
		return taken.then
	}
	if err != nil {
		return nil
	}
	d.m.Attempts++
	d.m.Began = d.now()
	// The call outlives a shutdown: its outcome is worth the partner's timeout.
	outcome := ask(d.lane, call, func() (gift.Outcome, bool) {
		o := p.Adapter.Grant(context.WithoutCancel(ctx), d.m.Claim, d.m.Order)
		return o, delivery.Healthy(o)
	})
	return d.conclude(p, outcome)
}

// ask makes a call and tells the breaker how it went, also where it panics.
func ask[T any](l *lane, call *breaker.Call, do func() (answer T, healthy bool)) T {
	result := breaker.Failure
	l.calling.Add(1)
	defer func() {
		l.calling.Add(-1)
		call.Done(result)
	}()
	answer, healthy := do()
	if healthy {
		result = breaker.Success
	}
	return answer
}

// query asks the partner where an order in doubt stands.
func (d *delivering) query(ctx context.Context) step {
	call, p, err := d.admit(ctx, false)
	if err != nil {
		return nil
	}
	d.m.Queries++
	asked := d.now() // what the partner says of the order may be as old as that
	standing := ask(d.lane, call, func() (delivery.Standing, bool) {
		s := p.Adapter.Query(context.WithoutCancel(ctx), d.m.Order.ID)
		_, silent := s.(delivery.Unanswered)
		return s, !silent
	})
	traits := p.Adapter.Traits()
	switch s := standing.(type) {
	case delivery.Settled:
		return d.conclude(p, s.Outcome)
	case delivery.None:
		if settled := d.settled(ctx, traits, asked); asked.Before(settled) {
			return d.again(p, "none_yet", "the partner does not know the order; believed from "+settled.UTC().Format(time.RFC3339), settled.Sub(d.now()))
		}
		d.m.InDoubt = false
		return d.grant
	case delivery.Pending:
		return d.again(p, "pending", "the partner has not decided", 0)
	case delivery.Unanswered:
		if traits.Idempotent {
			return d.grant
		}
		return d.again(p, s.Code, s.Reason, s.After)
	}
	return d.again(p, "unreadable", "the partner's standing was not understood", 0)
}

// admit passes breaker, mark and rate, and returns a call that may begin now.
func (d *delivering) admit(ctx context.Context, attempt bool) (*breaker.Call, *Partner, error) {
	for {
		p := d.partner.Load()
		if err := p.Breaker.Wait(ctx); err != nil {
			return nil, nil, d.unmark(err)
		}
		if attempt && !d.marked && !p.Adapter.Traits().Idempotent {
			if err := d.marks.acquire(ctx); err != nil {
				return nil, nil, err
			}
			defer d.marks.release()
			if err := d.win(ctx, p); err != nil {
				return nil, nil, err
			}
			// Commit point: from here on a crash leaves the attempt in doubt.
			if err := d.append(ctx, d.event(fallbacklog.Attempted, fallbacklog.Event{Attempts: d.m.Attempts + 1, Began: d.now()})); err != nil {
				d.release()
				return nil, nil, err
			}
			d.marked = true
		}
		if err := d.pacer.Wait(ctx); err != nil {
			return nil, nil, d.unmark(err)
		}
		if d.stale() {
			if err := d.renew(ctx, p); err != nil {
				return nil, nil, d.unmark(err)
			}
		}
		call, err := p.Breaker.Allow()
		if err == nil {
			d.wonAt = time.Time{} // from here on the mark is not taken back
			d.counts.calls.Add(1)
			return call, p, nil
		}
		if d.marked || !errors.Is(err, breaker.ErrOpen) {
			return nil, nil, d.unmark(err)
		}
	}
}

// unmark takes a mark back whose call was never made, so that nobody has to
// doubt it.
func (d *delivering) unmark(why error) error {
	d.release()
	if !d.marked {
		return why
	}
	kind := fallbacklog.Deferred
	if d.m.InDoubt && !d.decided {
		kind = fallbacklog.Unknown
	}
	due := d.now()
	e := fallbacklog.Event{Attempts: d.m.Attempts, Queries: d.m.Queries, Began: d.m.Began, Due: due, Code: "not_called", Reason: "the lane paused before the call"}
	if d.append(context.Background(), d.event(kind, e)) == nil {
		d.marked = false
		d.deferUntil(due)
	}
	return why
}

func (d *delivering) now() time.Time { return d.c.opts.Now().UTC() }
