package queuetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

func order(t *testing.T, w *world) {
	l := w.lane("midas")
	first := w.claims(300, "midas")
	last := w.claims(300, "midas")
	want := append(first, last...)
	var got []gift.OrderID
	for i := range want {
		m := w.receive(l)
		got = append(got, m.Order.ID)
		if m.Attempts != 0 || m.InDoubt {
			t.Fatalf("message %d: %+v, want one that nobody tried", i, m)
		}
		w.grant(l, m)
	}
	w.inOrder("lane", got, want)
	if m := w.tryReceive(l, 20*time.Millisecond); m != nil {
		t.Fatalf("received %v again", m.Order.ID)
	}
}

// crashAnywhere stops a run of orders through receive, record and acknowledgement
// after each of its steps, on disks that keep nothing, half and all of what was
// not synced. What an engine elsewhere knows is on none of these disks.
func crashAnywhere(t *testing.T, w *world) {
	const orders = 4
	keeps := []float64{0, 0.5, 1}
	if !w.engine.Exact {
		keeps = keeps[1:2]
	}
	for i, keep := range keeps {
		for stop := range 4*orders + 1 {
			partner := fmt.Sprintf("p%d-%d", i, stop)
			l := w.lane(partner)
			ids := w.claims(orders, partner)
			step := 0
			next := func() bool { step++; return step <= stop }
			for n := range orders {
				if !next() {
					break
				}
				m := w.receive(l)
				if !next() {
					break
				}
				if n%2 == 0 {
					w.outcome(m, fallbacklog.Granted, fallbacklog.Event{Attempts: 1})
				} else {
					w.outcome(m, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: time.Now()})
				}
				if !next() {
					break
				}
				if n%2 == 0 {
					w.must(l.Ack(context.Background(), m))
				} else {
					w.must(l.Defer(context.Background(), m, time.Now()))
				}
				if !next() {
					break
				}
				w.status(l)
			}
			w.crash(keep)
			w.drain(partner, ids...)
		}
	}
}

func outOfOrder(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(20, "midas")
	var open []gift.OrderID
	for i := range 15 {
		m := w.receive(l)
		if i%3 == 0 {
			open = append(open, m.Order.ID)
			continue
		}
		w.grant(l, m)
	}
	w.kill()
	l = w.lane("midas")
	want := make(map[gift.OrderID]bool)
	for _, id := range append(open, ids[15:]...) {
		want[id] = true
	}
	for len(want) > 0 {
		m := w.receive(l)
		final := w.story(m.Order.ID).State.Final()
		if final && m.Fresh {
			t.Fatalf("order %v is settled and called fresh", m.Order.ID)
		}
		if !final && !want[m.Order.ID] {
			t.Fatalf("order %v is received twice", m.Order.ID)
		}
		delete(want, m.Order.ID)
		if !final {
			w.grant(l, m)
		}
	}
}

func attemptAndCrash(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(2, "midas")
	m := w.receive(l)
	w.retry(l, m, fallbacklog.Deferred, time.Now())
	began := time.Now().UTC().Truncate(0)
	attempts := map[gift.OrderID]int{}
	for range 2 {
		m := w.receive(l)
		w.outcome(m, fallbacklog.Attempted, fallbacklog.Event{Attempts: m.Attempts + 1, Began: began})
		attempts[m.Order.ID] = m.Attempts + 1
	}
	w.kill()
	l = w.lane("midas")
	for range 2 {
		m := w.receive(l)
		if m.Fresh {
			t.Fatalf("order %v was attempted and is called fresh", m.Order.ID)
		}
		if w.engine.Exact && (!m.InDoubt || m.Attempts != attempts[m.Order.ID] || !m.Began.Equal(began)) {
			t.Fatalf("got %+v, want attempt %d in doubt since %v", m, attempts[m.Order.ID], began)
		}
		w.grant(l, m)
	}
}

func packs(t *testing.T, w *world) {
	l := w.lane("midas")
	c := w.claim("midas", "iris", "midas", "midas")
	last := w.claim("midas")
	var got []gift.OrderID
	held := make(map[gift.OrderID]*queue.Message)
	for len(held) < 4 {
		m := w.receive(l)
		got = append(got, m.Order.ID)
		held[m.Order.ID] = m
	}
	w.inOrder("lane", got, []gift.OrderID{c.Orders[0].ID, c.Orders[2].ID, c.Orders[3].ID, last.Orders[0].ID})
	for _, id := range []gift.OrderID{c.Orders[3].ID, c.Orders[0].ID, last.Orders[0].ID} {
		w.grant(l, held[id])
	}
	if s := w.status(l); s.Oldest.IsZero() || s.Oldest.After(c.ClaimedAt) || !s.OldestSeen.Equal(c.ClaimedAt.Truncate(time.Millisecond)) {
		t.Fatalf("the oldest is %v, seen is %v; want one not after %v, and that", s.Oldest, s.OldestSeen, c.ClaimedAt)
	}
	w.kill()
	w.drain("midas", c.Orders[2].ID)
	w.drain("iris", c.Orders[1].ID)
	w.drain("midas", last.Orders[0].ID)
}

func independence(t *testing.T, w *world) {
	w.lane("asleep")
	awake := w.lane("awake")
	var ids []gift.OrderID
	for range 1000 {
		c := w.claim("asleep", "awake")
		ids = append(ids, c.Orders[1].ID)
	}
	var got []gift.OrderID
	for range ids {
		m := w.receive(awake)
		got = append(got, m.Order.ID)
		w.grant(awake, m)
	}
	w.inOrder("awake", got, ids)
}
