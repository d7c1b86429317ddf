package reconcile

import (
	"context"
	"fmt"
	"slices"

	"manna/fallbacklog"
	"manna/gift"
)

// finding is what one order comes to. It is small: a chunk of them waits while an
// earlier span is written.
type finding struct {
	class   Class
	lane    uint16
	camp    uint16
	differs bool // granted is another amount than was claimed
	unsaid  doubt
	unfed   uint16 // log of another node whose claim waits to be handed to its lane; 0: none
	id      gift.OrderID
	at      int64 // of the claim, or of the grant where there is none; Unix ms
	amount  int64
	granted int64
	claim   place  // of the `claimed` record
	tried   place  // of the last record that counts attempts; zero: none
	twice   *twice // not nil: a claim's, and no order's
}

// doubt is why an order may have been applied although the logs do not say so. A
// reissue says it first, or it would hide it.
type doubt uint8

const (
	noDoubt doubt = iota
	// openAttempt: an attempt began that has no outcome.
	openAttempt
	// lostOutcome: the outcome may be among what another node's log has lost.
	lostOutcome
)

// judge decides the class of an order from its rows. It does not change while it
// judges.
type judge struct {
	from, to int64  // Unix ms
	campaign uint16 // 0: all
	marks    []watermarks
	seen     seen
	slack    int64 // ms
	// explained: what was granted before, Unix ms, has its claim in one of the logs,
	// if it has any.
	explained int64
	// lost: outcomes of what was claimed before, Unix ms, may be among what a log has
	// lost. 0: there is but one log, and it says itself what became doubtful.
	lost int64
	read func(context.Context, place) (*fallbacklog.Record, error)
	// several is told of claims that several nodes recorded; nil: nobody wants to know.
	several func(context.Context, gift.ClaimID) error
	// look gives what the logs have of an order, if they have anything.
	look func(context.Context, gift.OrderID, func(*evidence) error) error
}

// order judges one order; ok is false where it is no part of this run.
func (j *judge) order(ctx context.Context, e *evidence) (f finding, ok bool, err error) {
	claim, grant := e.first(fallbacklog.Claimed), e.first(fallbacklog.Granted)
	first := claim
	if first == nil {
		first = grant
	}
	// Events of an order that has neither claim nor grant explain nothing and
	// need nothing explained.
	if first == nil || first.Time < j.from || first.Time >= j.to || j.campaign != 0 && first.Campaign != j.campaign {
		return f, false, nil
	}
	f = finding{id: gift.OrderID(first.ID), lane: first.Lane, camp: first.Campaign, at: first.Time, amount: first.Value, claim: e.claim()}
	switch {
	case claim == nil && grant.Time >= j.explained:
		return f, false, nil // its claim may not have arrived
	case claim == nil:
		f.class = Unexpected
	case grant != nil:
		f.class, err = j.granted(ctx, &f, e)
	default:
		f.class = j.pending(&f, e)
	}
	return f, true, err
}

// granted tells one grant from several: a grant that was told twice, as after a
// repeat with the same key, carries the same reference.
func (j *judge) granted(ctx context.Context, f *finding, e *evidence) (Class, error) {
	rows := e.rows
	grants, reference := 0, ""
	class := Matched
	for i := range rows {
		if rows[i].Kind != fallbacklog.Granted {
			continue
		}
		grants++
		// A claim without an amount can be granted with any.
		if f.amount != 0 && rows[i].Value != f.amount && !f.differs {
			f.differs, f.granted = true, rows[i].Value
			class = Mismatched
		}
	}
	if grants == 1 {
		return class, nil
	}
	for i := range rows {
		if rows[i].Kind != fallbacklog.Granted {
			continue
		}
		rec, err := j.read(ctx, e.place(i))
		if err != nil {
			return 0, fmt.Errorf("order %v: %w", f.id, err)
		}
		if rec.Event == nil || rec.Event.Reference == "" || rec.Event.Reference == reference {
			continue
		}
		if reference != "" {
			return Duplicate, nil
		}
		reference = rec.Event.Reference
	}
	return class, nil
}

// pending judges an order that was not granted.
func (j *judge) pending(f *finding, e *evidence) Class {
	lane := watermarks{}
	if int(f.lane) < len(j.marks) {
		lane = j.marks[f.lane]
	}
	// Before the rows are interleaved.
	log, unfed := j.seen.unfed(e)
	onItsWay := unfed || lane.served && lane.cover(e, &j.seen)
	state, open := e.state(j.slack)
	switch state {
	case gift.StateRefused:
		return Refused
	case gift.StateParked:
		return Parked
	}
	switch {
	case open:
		f.unsaid = openAttempt
	case state != gift.StateUnknown && f.at < j.lost && !e.deferred(j.lost):
		f.unsaid = lostOutcome
	}
	for i, row := range slices.Backward(e.rows) {
		if row.Kind != fallbacklog.Claimed {
			f.tried = e.place(i)
			break
		}
	}
	switch {
	case onItsWay:
		f.unfed = log
		return InFlight
	case f.unsaid != noDoubt || state == gift.StateUnknown:
		return InDoubt
	}
	return Missing
}
