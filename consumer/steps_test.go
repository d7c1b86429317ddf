package consumer_test

import (
	"context"
	"testing"

	"manna/consumer"
	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// lane waits until the lane is up and tells its status.
func (w *world) lane(t *testing.T, name string) (consumer.LaneStatus, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		for _, s := range w.consumer.Lanes(ctx) {
			if s.Partner == name && s.Queue.Backlog+s.Queue.Held > 0 {
				return s, nil
			}
		}
	}
	return consumer.LaneStatus{}, ctx.Err()
}

// reissue takes an order up again as a person would.
func (w *world) reissue(t *testing.T, s *fallbacklog.Story) {
	t.Helper()
	w.from = w.log.End()
	rec := &fallbacklog.Record{Kind: fallbacklog.Reissued, Event: &fallbacklog.Event{
		Order: s.Order.ID, Claim: s.Claim.ID, Campaign: s.Claim.Campaign, Partner: s.Order.Partner, Origin: s.Origin, Run: fallbacklog.RunPerson + "test",
	}}
	if err := w.log.Append(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if err := w.queue.Send(t.Context(), &queue.Message{Claim: s.Claim, Order: s.Order, Origin: s.Origin}); err != nil {
		t.Fatal(err)
	}
}

// granted waits until n more grants are in the log than when it was called.
func (w *world) granted(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := w.log.Reader(w.log.End(), fallbacklog.Granted)
	defer r.Close()
	for range n {
		if _, err := r.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// settledAll waits until each of these orders is final.
func (w *world) settledAll(orders []gift.OrderID) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, id := range orders {
		for at := w.log.End(); ; at = w.log.End() {
			s, err := w.log.Order(id)
			if err != nil {
				w.t.Fatal(err)
			}
			if s.State.Final() {
				break
			}
			if err := w.log.Wait(ctx, at); err != nil {
				w.t.Fatalf("order %v is still %v: %v", id, s.State, err)
			}
		}
	}
}
