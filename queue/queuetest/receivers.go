package queuetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

func receivers(t *testing.T, w *world) {
	const orders, workers = 400, 8
	l := w.lane("midas")
	type received struct {
		m   *queue.Message
		err error
	}
	got := make(chan received)
	ctx, cancel := context.WithCancel(context.Background())
	for range workers {
		go func() {
			for {
				m, err := l.Receive(ctx)
				got <- received{m, err}
				if err != nil {
					return
				}
			}
		}()
	}
	ids := w.claims(orders, "midas")
	open := make(map[gift.OrderID]int)
	for _, id := range ids {
		open[id] = 1
	}
	for len(open) > 0 {
		select {
		case r := <-got:
			w.must(r.err)
			// Each is deferred once, so that due times and fresh orders wake them.
			if tries := open[r.m.Order.ID]; tries == 1 {
				open[r.m.Order.ID] = 2
				w.retry(l, r.m, fallbacklog.Deferred, time.Now().Add(time.Duration(len(open)%20)*time.Millisecond))
			} else {
				w.grant(l, r.m)
				delete(open, r.m.Order.ID)
			}
		case <-time.After(patience):
			t.Fatalf("%d orders are not received", len(open))
		}
	}
	cancel()
	for range workers {
		if r := <-got; !errors.Is(r.err, context.Canceled) {
			t.Fatalf("a receiver whose context ended got %v, %v", r.m, r.err)
		}
	}
}

// wakeUps has receivers wait for each thing that can wake them.
func wakeUps(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(1, "midas")
	m := w.receive(l)
	got := make(chan *queue.Message)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	receive := func() {
		m, err := l.Receive(ctx)
		if err != nil {
			t.Errorf("a receiver sleeps on: %v", err)
		}
		got <- m
	}
	// settle lets the receivers find that there is nothing for them.
	settle := func() { w.tryReceive(w.lane("other"), 30*time.Millisecond) }
	next := func() *queue.Message {
		m := <-got
		if m == nil {
			t.FailNow()
		}
		return m
	}

	go receive()
	settle()
	w.outcome(m, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: time.Now()})
	w.status(l)
	settle()
	w.must(l.Defer(ctx, m, time.Now()))
	w.retry(l, next(), fallbacklog.Deferred, time.Now().Add(time.Hour))

	// One that waits for a far due time goes on to a nearer one.
	w.claims(1, "midas")
	m = w.receive(l)
	go receive()
	settle()
	w.retry(l, m, fallbacklog.Deferred, time.Now().Add(10*time.Millisecond))
	w.grant(l, next())

	// Of several each gets its own.
	for range 3 {
		go receive()
	}
	settle()
	w.claim("midas", "midas", "midas")
	for _, m := range []*queue.Message{next(), next(), next()} {
		w.grant(l, m)
	}
}
