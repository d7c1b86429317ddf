package reconcile

import (
	"context"
	"fmt"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// reissueBatch is how many orders share one commit and one Send.
const reissueBatch = 256

// reissue brings orders back to their lanes, a batch at a time.
type reissue struct {
	log   *fallbacklog.Log // this node's own
	read  func(context.Context, place) (*fallbacklog.Record, error)
	queue Queue
	run   string
	entry *entry
	now   func() time.Time
	recs  []*fallbacklog.Record
	msgs  []*queue.Message
	count int64
}

func (r *reissue) add(ctx context.Context, f *finding, partner string) error {
	rec, err := r.read(ctx, f.claim)
	if err != nil {
		return fmt.Errorf("order %v: %w", f.id, err)
	}
	var order gift.Order
	ok := false
	if rec.Claim != nil {
		order, ok = rec.Claim.Order(f.id)
	}
	if !ok {
		return fmt.Errorf("order %v: the index says that its claim is at %v, and it is not", f.id, f.claim.at)
	}
	now := r.now().UTC()
	msg := &queue.Message{Claim: rec.Claim, Order: order, InDoubt: f.class == InDoubt}
	if f.claim.log == 0 {
		msg.Origin = rec.At
	}
	if f.tried != (place{}) {
		last, err := r.read(ctx, f.tried)
		if err != nil {
			return fmt.Errorf("order %v: %w", f.id, err)
		}
		if e := last.Event; e != nil {
			msg.Attempts, msg.Queries, msg.Began = e.Attempts, e.Queries, e.Began
		}
	}
	if f.unsaid != noDoubt {
		// When exactly the attempt began nobody can say: not after now.
		msg.Began = now
	}
	event := fallbacklog.Event{
		Order: f.id, Claim: rec.Claim.ID, Campaign: rec.Claim.Campaign, Partner: partner, Origin: msg.Origin,
		Attempts: msg.Attempts, Queries: msg.Queries, Began: msg.Began,
	}
	if f.unsaid != noDoubt {
		// The order is in doubt from here on, and the lane asks before it calls again.
		doubt := event
		doubt.Due, doubt.Code, doubt.Reason = now, "interrupted", "the attempt has no outcome in the log"
		if f.unsaid == lostOutcome {
			doubt.Code, doubt.Reason = fallbacklog.CodeLost, "its outcome may be among the records that a node's log has lost"
		}
		r.recs = append(r.recs, &fallbacklog.Record{Kind: fallbacklog.Unknown, Time: now, Event: &doubt})
	}
	event.Run = r.run
	r.recs = append(r.recs, &fallbacklog.Record{Kind: fallbacklog.Reissued, Time: now, Event: &event})
	r.msgs = append(r.msgs, msg)
	if len(r.msgs) < reissueBatch {
		return nil
	}
	return r.flush(ctx)
}

// flush commits and sends what waits.
func (r *reissue) flush(ctx context.Context) error {
	if len(r.msgs) == 0 {
		return nil
	}
	if err := r.entry.held(ctx); err != nil {
		return err
	}
	// Commit point of the reissue: from here on these orders count as in flight
	// for as long as Slack, or the lane, says so. A crash before Send leaves them
	// to the first run after that.
	if err := r.log.Append(ctx, r.recs...); err != nil {
		return fmt.Errorf("reissue %d orders: %w", len(r.msgs), err)
	}
	if err := r.queue.Send(ctx, r.msgs...); err != nil {
		return fmt.Errorf("reissue %d orders: %w", len(r.msgs), err)
	}
	r.count += int64(len(r.msgs))
	clear(r.recs)
	clear(r.msgs)
	r.recs, r.msgs = r.recs[:0], r.msgs[:0]
	return nil
}
