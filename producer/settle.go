package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/queue"
)

// lock takes the lock of a claim: what is done at most once to a claim is looked
// up and written under it.
func (f *Front) lock(id gift.ClaimID) *sync.Mutex {
	m := &f.settling[int(id[15])%len(f.settling)]
	m.Lock()
	return m
}

// unsettled is an order as far as it decides whether it is sent again.
type unsettled struct {
	ledger.OrderState
	began   time.Time // of the last attempt, or later
	settled time.Time // when a settle request last sent it
}

// Settle puts every order of a claim that is not final into its lane again, to be
// tried now. sent is false where there was none to send. Errors are *gift.Error
// where the caller can understand them: NotFound, TooManyRequests within
// Limits.SettleEvery of the last time, and Unavailable where another node accepted
// the claim, which alone knows the target it was made with, or where orders' states
// on other nodes cannot be read.
//
// An order whose attempt is under way, or in doubt after a crash, is left to its
// lane: it alone knows what may follow that attempt.
func (f *Front) Settle(ctx context.Context, id gift.ClaimID) (sent bool, err error) {
	if f.queue == nil {
		return false, &gift.Error{Code: gift.Unavailable, Detail: "this node delivers nothing", RetryAfter: soon()}
	}
	defer f.lock(id).Unlock()
	answer, at, err := f.settleable(ctx, id)
	if err != nil || answer.Settled() {
		return false, err
	}
	claim := answer.Claim
	orders, err := f.unsettled(ctx, claim)
	if err != nil {
		return false, err
	}
	now := f.now().UTC()
	var records []*fallbacklog.Record
	var messages []*queue.Message
	for i, o := range claim.Orders {
		s := &orders[i]
		if wait := f.limits.SettleEvery - now.Sub(s.settled); wait > 0 {
			return false, &gift.Error{Code: gift.TooManyRequests, Detail: "this claim was to be settled a moment ago; come again", RetryAfter: wait}
		}
		if s.State.Final() || s.Open {
			continue
		}
		records = append(records, &fallbacklog.Record{Kind: fallbacklog.Reissued, Time: now, Event: &fallbacklog.Event{
			Order: o.ID, Claim: id, Campaign: claim.Campaign, Partner: o.Partner, Origin: at,
			Attempts: s.Attempts, Queries: s.Queries, Began: s.began, Due: now, Code: s.Code, Reason: s.Reason, Run: fallbacklog.RunSettle,
		}})
		messages = append(messages, &queue.Message{
			Claim: claim, Order: o, Origin: at, Attempts: s.Attempts, Queries: s.Queries,
			InDoubt: s.State == gift.StateUnknown, Began: s.began,
		})
	}
	if len(records) == 0 {
		return false, nil
	}
	// Commit point: the orders are reissued; their lanes find the records even
	// where Send fails.
	if err := f.log.Append(ctx, records...); err != nil {
		return false, err
	}
	return true, f.queue.Send(ctx, messages...)
}

// settleable reads a claim and finds it in this node's log; at is zero where it is
// another's and needs no settling.
func (f *Front) settleable(ctx context.Context, id gift.ClaimID) (a Answer, at fallbacklog.Position, err error) {
	if at, ok := f.local.find(id); ok {
		if a, err = f.readOwn(ctx, id, at); err != nil || !a.elsewhere {
			return a, at, err
		}
	} else {
		a, err = f.Read(ctx, id)
	}
	if err == nil && !a.Settled() {
		err = &gift.Error{Code: gift.Unavailable, Detail: "another node accepted this claim and has to settle it; come again", RetryAfter: time.Second}
	}
	return a, 0, err
}

// unsettled tells where the orders of a claim of this node's log stand.
func (f *Front) unsettled(ctx context.Context, claim *gift.Claim) ([]unsettled, error) {
	var elsewhere map[gift.OrderID][]ledger.OrderEvent
	if f.elsewhere != nil {
		s, err := f.elsewhere.claim(ctx, claim.ID, nil)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return nil, unread(fmt.Sprintf("where the orders of claim %v stand", claim.ID))
		}
		elsewhere = s.Events
	}
	orders := make([]unsettled, len(claim.Orders))
	for i, o := range claim.Orders {
		own, err := f.log.Order(o.ID)
		if err != nil {
			return nil, err
		}
		s := &orders[i]
		s.OrderState = ledger.OrderState{State: own.State, Open: own.Open, Attempts: own.Attempts, Queries: own.Queries, Code: own.Code, Reason: own.Reason}
		s.began, s.settled = own.Began, lastSettled(own)
		if others := elsewhere[o.ID]; len(others) > 0 {
			s.OrderState = f.together(own, others)
			s.took(others)
		}
	}
	return orders, nil
}

// took takes in when an order was tried and settled, by what nodes' logs say. Of an
// attempt only the outcome's time may be known, which is later than its beginning:
// what waits for the attempt to be over then waits longer.
func (u *unsettled) took(events []ledger.OrderEvent) {
	for i := range events {
		switch e := &events[i]; {
		case e.Kind != fallbacklog.Reissued:
			u.began = latest(u.began, e.Time)
		case e.Run == fallbacklog.RunSettle:
			u.settled = latest(u.settled, e.Time)
		}
	}
}

// lastSettled is when a settle request last sent the order.
func lastSettled(s *fallbacklog.Story) (last time.Time) {
	for _, rec := range s.Records {
		if rec.Kind == fallbacklog.Reissued && rec.Event.Run == fallbacklog.RunSettle {
			last = rec.Time
		}
	}
	return last
}

// Returned takes note that a gift went back to its stock. Its `returned` record is
// in the log already, so the next start counts it; Returned is called once for
// each such record. Where nodes share the stock nobody calls it: there a gift goes
// back to all of them, by ledger.Stock's Refund.
func (f *Front) Returned(s *fallbacklog.Stock) { f.stock.giveBack(s.Campaign, s.Gift, s.Count) }
