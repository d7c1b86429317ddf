package producer

import (
	"context"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// lock takes the lock of a claim: what is done at most once to a claim is looked
// up and written under it.
func (f *Front) lock(id gift.ClaimID) *sync.Mutex {
	m := &f.settling[int(id[15])%len(f.settling)]
	m.Lock()
	return m
}

// Settle puts every order of a claim that is not final into its lane again, to be
// tried now. sent is false where there was none to send. Errors are *gift.Error
// where the caller can understand them: NotFound, TooManyRequests within
// Limits.SettleEvery of the last time.
//
// An order whose attempt is under way, or in doubt after a crash, is left to its
// lane: it alone knows what may follow that attempt.
func (f *Front) Settle(ctx context.Context, id gift.ClaimID) (sent bool, err error) {
	if f.queue == nil {
		return false, &gift.Error{Code: gift.Unavailable, Detail: "this node delivers nothing", RetryAfter: soon()}
	}
	defer f.lock(id).Unlock()
	claim, err := f.Read(id)
	if err != nil {
		return false, err
	}
	now := f.now().UTC()
	var records []*fallbacklog.Record
	var messages []*queue.Message
	for _, o := range claim.Claim.Orders {
		s, err := f.log.Order(o.ID)
		if err != nil {
			return false, err
		}
		if wait := f.limits.SettleEvery - now.Sub(lastSettled(s)); wait > 0 {
			return false, &gift.Error{Code: gift.TooManyRequests, Detail: "this claim was to be settled a moment ago; come again", RetryAfter: wait}
		}
		if s.State.Final() || s.Open {
			continue
		}
		records = append(records, &fallbacklog.Record{Kind: fallbacklog.Reissued, Time: now, Event: &fallbacklog.Event{
			Order: o.ID, Claim: id, Campaign: s.Claim.Campaign, Partner: o.Partner, Origin: s.Origin,
			Attempts: s.Attempts, Queries: s.Queries, Began: s.Began, Due: now, Code: s.Code, Reason: s.Reason, Run: fallbacklog.RunSettle,
		}})
		messages = append(messages, &queue.Message{
			Claim: s.Claim, Order: o, Origin: s.Origin, Attempts: s.Attempts, Queries: s.Queries,
			InDoubt: s.State == gift.StateUnknown, Began: s.Began,
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
// each such record.
func (f *Front) Returned(s *fallbacklog.Stock) { f.stock.giveBack(s.Campaign, s.Gift, s.Count) }
