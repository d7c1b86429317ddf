//go:build engines

package rocketmq_test

import (
	"context"
	"testing"
	"time"

	"manna/ops/local/engines"
	"manna/queue"
	"manna/queue/rocketmq"
)

// until does something again and again until it works.
func (r *rig) until(what string, do func(context.Context) error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			r.Fatalf("%s: %v", what, err)
		}
	}
}

// expect receives and lets go until all of these have come.
func (r *rig) expect(l queue.Lane, msgs ...*queue.Message) {
	r.Helper()
	left := make(map[string]bool)
	for _, m := range msgs {
		left[m.Order.ID.String()] = true
	}
	for len(left) > 0 {
		m := r.receive(l)
		delete(left, m.Order.ID.String())
		r.ack(l, m)
	}
}

// TestBrokerThatLostItsStore: a broker comes back with an empty disk while a feeder
// and a lane are at work. Topics are made again, everything new is received, the
// watermarks tell the truth, and all of it is told once.
func TestBrokerThatLostItsStore(t *testing.T) {
	r := newRig(t)
	front, lanes := r.open("front", 2), r.open("lanes", 2)
	l := r.lane(lanes, "midas")
	// Each batch is older than the one before, so each has a mark of its own.
	for i := range 6 {
		msgs := r.claims(50, "midas")
		for _, m := range msgs {
			m.Claim.ClaimedAt = m.Claim.ClaimedAt.Add(-time.Duration(i) * time.Minute)
		}
		r.feed(front, msgs...)
		r.expect(l, msgs...)
	}
	n := &night{rig: r, q: lanes, lane: l}
	n.empties("midas")
	r.feed(front, r.claims(1, "midas")...)
	kept := r.receive(l)
	r.status(lanes, "midas") // reads the marks

	r.servers.Kill(engines.Broker)
	r.servers.Wipe(engines.Broker)
	r.servers.Start(engines.Broker)

	msgs := r.claims(40, "midas")
	r.until("feed", func(ctx context.Context) error { return front.Feed(ctx, msgs)() })
	r.until("status", func(ctx context.Context) error {
		s, err := lanes.Status(ctx, "midas")
		if claimed := msgs[0].Claim.ClaimedAt; err == nil && (s.Oldest.After(claimed) || s.Oldest.Before(claimed.Add(-10*time.Minute))) {
			t.Errorf("the oldest order was claimed at %v, and the watermark is %v", claimed, s.Oldest)
		}
		return err
	})
	r.expect(l, msgs...)
	msgs = r.claims(40, "midas")
	r.feed(front, msgs...)
	r.expect(l, msgs...)
	again := r.claims(1, "midas")
	r.until("send", func(ctx context.Context) error { return front.Send(ctx, again...) })
	r.expect(l, again...)
	// What was held before is deferred into the new store.
	if err := l.Defer(t.Context(), kept, time.Now().Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	r.expect(l, kept)
	n.empties("midas")

	// Each topic is made by one of the two nodes, or by both at once, and each of the
	// lane's queues starts over once: those of `first`, for nothing had come to the others.
	for _, topic := range []string{"-marks", "-first-midas", "-soon-midas", "-later-midas"} {
		if got := r.log.count("ERROR", "a topic was gone", "topic="+r.group+topic+" "); got < 1 || got > 2 {
			t.Errorf("that %s is made anew is told %d times, want once by a node that makes it", topic, got)
		}
	}
	if got := r.log.count("ERROR", "the lane", r.group+"-first-midas/"); got != 2 {
		t.Errorf("that queues of the lane start over is told %d times, want once for each of 2", got)
	}

	if got := r.log.count("ERROR", "watermarks", r.group+"-marks"); got != 1 {
		t.Errorf("that the marks are lost is told %d times, want once", got)
	}
	// What was tried again and again has come to its end: with both queues of `first`,
	// and with those of `soon` and `later` that got a message.
	r.log.await(t, 4, "INFO", "over: cannot read a queue of the lane")
	if found, err := rocketmq.Check(t.Context(), r.options("b", 2), "midas"); len(found.Brokers) != 1 || len(found.Missing) > 0 || err != nil {
		t.Errorf("a check finds %+v, %v", found, err)
	}
}

// TestPlaceBeyondTheEnd: a place above the queue's maximum, as a store restored from
// an old copy has it, goes back to where the queue begins.
func TestPlaceBeyondTheEnd(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 2)
	// The broker knows the group once it has had a member.
	if err := r.lane(q, "midas").Close(); err != nil {
		t.Fatal(err)
	}
	msgs := r.claims(20, "midas")
	r.feed(q, msgs...)
	if err := q.SetPlaces(t.Context(), "midas", 1000); err != nil {
		t.Fatal(err)
	}
	l := r.lane(q, "midas")
	r.expect(l, msgs...)
	more := r.claims(20, "midas")
	r.feed(q, more...)
	r.expect(l, more...)
	r.log.await(t, 1, "ERROR", r.group+"-first-midas", "place=1000", "max=")
	(&night{rig: r, q: q, lane: l}).empties("midas")
}
