//go:build engines

package rocketmq_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"manna/queue"
	"manna/queue/rocketmq"
)

// TestCloseUnderLoad closes queues while everything is under way: nothing panics,
// everybody is sent home, and what was not let go comes again.
func TestCloseUnderLoad(t *testing.T) {
	r := newRig(t)
	open := map[string]bool{}
	for round := range 5 {
		q, err := rocketmq.Open(t.Context(), r.options("a", 2))
		if err != nil {
			t.Fatal(err)
		}
		l := r.lane(q, "midas")
		var work sync.WaitGroup
		ended := func(what string, err error) {
			if err != nil && !errors.Is(err, queue.ErrClosed) {
				t.Errorf("round %d: %s: %v", round, what, err)
			}
		}
		batches := make(chan []*queue.Message, 100)
		for range cap(batches) {
			batches <- r.claims(20, "midas")
		}
		close(batches)
		var mu sync.Mutex
		deferred := make(chan struct{}, 1)
		for range 4 {
			work.Go(func() {
				for msgs := range batches {
					// A broker that has too much to do says so.
					err := q.Feed(t.Context(), msgs)()
					for err != nil && !errors.Is(err, queue.ErrClosed) {
						err = q.Feed(t.Context(), msgs)()
					}
					if err != nil {
						return
					}
					mu.Lock()
					for _, m := range msgs {
						open[m.Order.ID.String()] = true
					}
					mu.Unlock()
				}
			})
			work.Go(func() {
				for {
					m, err := l.Receive(t.Context())
					if err == nil {
						err = l.Defer(t.Context(), m, time.Now())
						select {
						case deferred <- struct{}{}:
						default:
						}
					}
					if err != nil {
						ended("receive and defer", err)
						return
					}
				}
			})
			work.Go(func() {
				for {
					if _, err := l.Status(t.Context()); errors.Is(err, queue.ErrClosed) {
						return
					}
				}
			})
		}
		<-deferred
		if err := q.Close(context.Background()); err != nil {
			t.Errorf("round %d: close: %v", round, err)
		}
		work.Wait()
	}
	q := r.open("a", 2)
	l := r.lane(q, "midas")
	for len(open) > 0 {
		m := r.receive(l)
		delete(open, m.Order.ID.String())
		r.ack(l, m)
	}
	if n := r.log.count("panicked"); n > 0 {
		t.Errorf("the client panicked %d times", n)
	}
}
