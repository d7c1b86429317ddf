package consumer

import (
	"context"
	"errors"
	"strings"
	"time"

	"manna/delivery"
	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// Cluster is what the lanes of several processes share. An order's claim may be in
// another node's log, and two of them may hold one order: after a rebalance, or
// when the queue delivers it again.
type Cluster struct {
	// Marks decides who may call a partner that cannot dedupe.
	Marks ledger.Marks
	// Choices decides which gift a claim gets that fronts have recorded with different
	// ones; Varies reports whether they may have. Nil: they have not.
	Choices ledger.Choices
	Varies  func(*gift.Claim) bool
	// Outcomes tells what other nodes' logs say, as far as they have arrived.
	Outcomes ledger.Outcomes
	// Stock takes the gifts back of claims that came to nothing.
	Stock ledger.Stock
	// Holder is this process, once it has joined the registry, and says why it has
	// not before.
	Holder func() (ledger.Holder, error)
}

const (
	// markedFor is how long after its mark a call begins at the latest, by the clock
	// that stamped the mark. A mark that waited longer for the rate is made anew.
	markedFor = 5 * time.Second
	// clocksApart is the most by which any two nodes' clocks differ.
	clocksApart = 10 * time.Second
	// markGrace is what is added to the partner's timeout before others hold an
	// attempt for one that came to nothing. At the moment its call begins, the clock of
	// whoever makes it shows Began + markedFor at the latest, and so no other clock
	// shows more than clocksApart after that; a timeout later the call has ended. Less
	// would have a copy adopt an attempt whose call is still to come.
	markGrace = markedFor + clocksApart
	// lookAgain is how soon the ledger is asked again where it lags.
	lookAgain    = 2 * time.Second
	maxLookAgain = time.Minute
)

// errTaken: the attempt is not this process's to make. What is to be done about
// the order instead comes with it.
type errTaken struct{ then step }

func (*errTaken) Error() string { return "the attempt is another's" }

// errStale: a mark waited too long for its call, and could not be made anew.
var errStale = errors.New("the mark is too old")

// win marks the next attempt among all consumers, waiting while the marks are not
// to be had: a partner that cannot dedupe gets no call without.
func (d *delivering) win(ctx context.Context, p *Partner) error {
	if d.c.opts.Cluster == nil {
		return nil
	}
	defer d.onward()
	for {
		a, err := d.attempt()
		var s ledger.Standing
		if err == nil {
			s, err = d.marking.ask(ctx, a)
		}
		if ctx.Err() == nil {
			d.c.shared.note(err)
		}
		if err == nil {
			// One of its own is met where an answer was lost. No call was made with it:
			// the log would say so, and a process delivers an order once at a time.
			own := s.Repeats(a) && s.Concluded == 0
			if own {
				d.won, d.wonAt = s.Mark, s.Mark.Began
			} else {
				return &errTaken{d.yield(p, s)}
			}
			if s.Won || !d.stale() {
				return nil
			}
			if err = d.release(); err == nil {
				continue
			}
		}
		if err := d.await(ctx, err); err != nil {
			d.won, d.wonAt = a, d.now() // perhaps
			d.release()
			return err
		}
	}
}

// renew makes a mark anew that has waited too long, so that others do not hold the
// attempt for one that came to nothing while it is made.
func (d *delivering) renew(ctx context.Context, p *Partner) error {
	if d.release() != nil || d.win(ctx, p) != nil || d.stale() {
		return errStale
	}
	return nil
}

// stale reports whether the mark is too old for a call. The zero time is no mark.
func (d *delivering) stale() bool {
	return !d.wonAt.IsZero() && d.now().Sub(d.wonAt) > markedFor
}

// release takes a mark back whose call was never made, or certainly not applied.
func (d *delivering) release() error {
	if d.c.opts.Cluster == nil || d.wonAt.IsZero() {
		return nil
	}
	d.wonAt = time.Time{}
	ctx, cancel := context.WithTimeout(context.Background(), retryPause)
	defer cancel()
	err := d.c.opts.Cluster.Marks.Release(ctx, []ledger.Attempt{d.won})
	if err != nil {
		d.c.shared.note(err)
	}
	return err
}

// attempt is the one that comes next. When its mark is made, it is stamped.
func (d *delivering) attempt() (ledger.Attempt, error) {
	h, err := d.c.opts.Cluster.Holder()
	return ledger.Attempt{Order: d.m.Order.ID, Number: d.base + d.m.Attempts + 1, Partner: d.name, Node: h.Node, Epoch: h.Epoch}, err
}

// mark makes the marks of attempts; the time that the call takes counts as theirs.
func (l *lane) mark(ctx context.Context, attempts []ledger.Attempt) ([]ledger.Standing, error) {
	now := l.c.opts.Now().UTC()
	for i := range attempts {
		attempts[i].Began = now
	}
	return l.c.opts.Cluster.Marks.Mark(ctx, attempts)
}

func (l *lane) concludeMarks(ctx context.Context, ends []ledger.Conclusion) ([]struct{}, error) {
	return make([]struct{}, len(ends)), l.c.opts.Cluster.Marks.Conclude(ctx, ends)
}

// yield goes on with an order of which another has made, or makes, the last attempt.
func (d *delivering) yield(p *Partner, s ledger.Standing) step {
	return func(ctx context.Context) step {
		switch {
		case s.Concluded == gift.StateParked:
			return d.takenUp(ctx, p, s)
		case s.Concluded.Final():
			// The outcome is in the log of whoever made the attempt.
			d.ack()
			return nil
		case s.Concluded != 0:
			return d.goOn(p, s)
		}
		if d.own(s) {
			// How its own attempt ended this process has read in its log.
			d.base = s.Mark.Number - d.m.Attempts
			return d.first()
		}
		if known := s.Mark.Began.Add(p.Adapter.Traits().Timeout + markGrace); d.now().Before(known) {
			d.deferUntil(known)
			return nil
		}
		return d.adopt(ctx, p, s)
	}
}

// settled is when a partner is believed that it does not know the order in doubt, by
// this node's clock. The attempt may have been another's, and then Began is by another
// clock; where the partner dedupes, a mistake about that is harmless.
func (d *delivering) settled(ctx context.Context, t delivery.Traits, asked time.Time) time.Time {
	settled := d.m.Began.Add(t.SettlesWithin)
	if c := d.c.opts.Cluster; c != nil && !t.Idempotent && !asked.Before(settled) {
		highest, err := c.Marks.Highest(ctx, []gift.OrderID{d.m.Order.ID})
		if err != nil {
			d.c.shared.note(err)
		}
		if err != nil || !d.own(highest[d.m.Order.ID]) {
			settled = settled.Add(clocksApart)
		}
	}
	return settled
}

// own reports whether the mark that stands is this process's.
func (d *delivering) own(s ledger.Standing) bool {
	h, err := d.c.opts.Cluster.Holder()
	return err == nil && s.Mark.Node == h.Node && s.Mark.Epoch == h.Epoch
}

// adopt takes on an attempt that its maker has not concluded in time.
func (d *delivering) adopt(ctx context.Context, p *Partner, s ledger.Standing) step {
	row, err := d.order(ctx)
	if err == nil && (row.State == gift.StateGranted || row.State == gift.StateRefused) {
		d.ack()
		return nil
	}
	// From here on the mark is not released any more: its number is used, and all
	// below the next one stay so.
	if _, err = d.concluding.ask(ctx, ledger.Conclusion{Attempt: s.Mark, State: gift.StateUnknown}); err != nil {
		d.c.shared.note(err)
		d.deferUntil(d.now().Add(lookAgain))
		return nil
	}
	s.Concluded, s.Time = gift.StateUnknown, d.now()
	return d.goOn(p, s)
}

// goOn takes an order up after an attempt that did not end it. Whoever made that may
// have died before it sent the order on. Where it did not, two copies go on: each
// attempt is still made by one of them.
func (d *delivering) goOn(p *Partner, s ledger.Standing) step {
	made := s.Mark.Number - s.Parked
	behind := d.m.Attempts < made
	if behind || s.Parked > 0 {
		// Of an order that a person took up this node's log may tell the attempts from
		// before.
		d.m.Attempts = made
	}
	d.base = s.Mark.Number - d.m.Attempts
	// Whatever a person has decided, they did not know of this attempt.
	d.decided, d.m.InDoubt, d.m.Began = false, s.Concluded == gift.StateUnknown, s.Mark.Began.Add(markedFor)
	if due := s.Time.Add(pause(p.Retry, d.m.Attempts, 0)); behind && due.After(d.now()) {
		d.deferUntil(due)
		return nil
	}
	return d.first()
}

// last looks for what others have done about an order that is in doubt by this
// node's log alone, before it is parked for that.
func (d *delivering) last(ctx context.Context, park step) step {
	c := d.c.opts.Cluster
	if c == nil {
		return park(ctx)
	}
	highest, err := c.Marks.Highest(ctx, []gift.OrderID{d.m.Order.ID})
	if err != nil {
		d.c.shared.note(err)
		d.deferUntil(d.now().Add(lookAgain))
		return nil
	}
	s := highest[d.m.Order.ID]
	if s.Mark.Number > 0 && s.Concluded != gift.StateUnknown && !d.own(s) {
		return d.yield(d.partner.Load(), s)
	}
	d.base = max(0, s.Mark.Number-d.m.Attempts) // it is the attempt in doubt
	return park(ctx)
}

// concluded tells the others how an attempt ended. A conclusion that is not told
// only costs them a query, or a look into the ledger.
func (d *delivering) concluded(kind fallbacklog.Kind) {
	if d.c.opts.Cluster == nil || d.partner.Load().Adapter.Traits().Idempotent || d.m.Attempts == 0 && !d.free {
		return
	}
	if d.free && kind == fallbacklog.Deferred {
		// It is not counted, and its number is free again.
		d.wonAt = d.now()
		d.release()
		return
	}
	a, err := d.attempt()
	if err == nil {
		// An attempt that was not counted has its number all the same.
		a.Number, a.Began = max(d.base+d.m.Attempts, d.won.Number), d.m.Began
		_, err = d.concluding.ask(context.Background(), ledger.Conclusion{Attempt: a, State: kind.State()})
	}
	if err != nil {
		d.c.shared.note(err)
	}
}

// order asks the ledger about the order.
func (d *delivering) order(ctx context.Context) (ledger.OrderRow, error) {
	ctx, cancel := context.WithTimeout(ctx, retryPause)
	defer cancel()
	row, err := d.c.opts.Cluster.Outcomes.Order(ctx, d.m.Order.ID)
	if err == nil || !errors.Is(err, ledger.ErrNotFound) {
		d.c.shared.note(err)
	}
	return row, err
}

// elsewhere reports whether another node's log has the order's end. It is asked
// only of orders that were held before, and what it does not know yet costs a
// repeat that the partner dedupes, or that the marks prevent.
//
// Where the partner dedupes it is asked only before an order is parked, so that no
// person looks after one that has ended. Before a retry it would be a look into the
// ledger for each, to save what redelivery makes seldom and the partner makes
// harmless: the outcome in two logs, which is one to all who read them.
func (d *delivering) elsewhere(ctx context.Context) (final bool) {
	if d.c.opts.Cluster == nil || d.m.Attempts == 0 {
		return false
	}
	row, err := d.order(ctx)
	return err == nil && (row.State == gift.StateGranted || row.State == gift.StateRefused)
}

// parting tells a copy of an order that is parked from one that a person has sent
// on its way again since. The record of that may be in any node's log.
type parting int

const (
	unsure  parting = iota // the ledger lags
	ended                  // the copy is to be dropped
	resumed                // the order is on its way
)

// resumed decides by what the ledger has; parked is when the order was parked.
// Nobody's clock is trusted to more than clocksApart.
func (d *delivering) resumed(ctx context.Context, parked time.Time) (ledger.OrderRow, parting) {
	row, err := d.order(ctx)
	if err != nil {
		return row, unsure
	}
	sure := parked
	if d.since.After(sure) {
		sure = d.since
	}
	switch {
	case row.State == gift.StateGranted || row.State == gift.StateRefused:
		return row, ended
	case row.AsOf.After(sure.Add(clocksApart)):
		if row.State == gift.StateParked {
			return row, ended
		}
		return row, resumed
	}
	for i := range row.Events {
		if e := &row.Events[i]; e.Kind == fallbacklog.Reissued && e.Time.After(parked.Add(clocksApart)) {
			return row, resumed
		}
	}
	return row, unsure
}

// lookLater puts the order back until the ledger may know more. What the message says
// of attempts is dropped; that it is held since then, is kept in it.
func (d *delivering) lookLater() {
	d.m.Attempts, d.m.Queries, d.m.InDoubt, d.m.Began = 0, 0, false, d.since
	d.deferUntil(d.now().Add(min(max(d.now().Sub(d.since)/2, lookAgain), maxLookAgain)))
}

// heldSince is when a message was first looked at that waits for the ledger; of
// others when it was received.
func heldSince(attempts int, inDoubt bool, began, received time.Time) time.Time {
	if attempts == 0 && !inDoubt && !began.IsZero() {
		return began
	}
	return received
}

// takenUp goes on with an order whose last attempt ended parked, where a person has
// taken it up: its own count begins anew, the marks' numbers go on.
func (d *delivering) takenUp(ctx context.Context, p *Partner, s ledger.Standing) step {
	row, which := d.resumed(ctx, s.Time)
	switch which {
	case ended:
		d.ack()
		return nil
	case unsure:
		d.lookLater()
		return nil
	}
	d.base, d.m.Attempts, d.m.Queries = s.Mark.Number, 0, 0
	d.m.InDoubt, d.m.Began = parkedInDoubt(row.Events), s.Mark.Began.Add(markedFor)
	d.decided = strings.HasPrefix(row.Run, fallbacklog.RunPerson)
	if d.m.InDoubt && !d.decided && !p.Adapter.Traits().Queries {
		return d.parkInDoubt()
	}
	return d.first()
}

// parkedInDoubt reports whether the order was parked because of an attempt whose
// outcome is unknown. So it is where that has not been taken in.
func parkedInDoubt(events []ledger.OrderEvent) bool {
	var parked *ledger.OrderEvent
	for i := range events {
		if e := &events[i]; e.Kind == fallbacklog.Parked && (parked == nil || e.Time.After(parked.Time)) {
			parked = e
		}
	}
	return parked == nil || parked.Code == codeUnknown
}
