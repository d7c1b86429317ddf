package queuetest

import (
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

func deferral(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(3, "midas")
	held := []*queue.Message{w.receive(l), w.receive(l), w.receive(l)}
	now := time.Now()
	due := map[gift.OrderID]time.Time{}
	for i, after := range []time.Duration{150 * time.Millisecond, 50 * time.Millisecond, 0} {
		due[held[i].Order.ID] = now.Add(after)
		w.retry(l, held[i], fallbacklog.Deferred, now.Add(after))
	}
	for i := range ids {
		m := w.receive(l)
		if now := time.Now(); now.Before(due[m.Order.ID]) {
			t.Fatalf("order %v comes %v before it is due", m.Order.ID, due[m.Order.ID].Sub(now))
		}
		if want := ids[2-i]; m.Order.ID != want && w.engine.Exact {
			t.Fatalf("message %d is order %v, want %v", i, m.Order.ID, want)
		}
		if m.Attempts != 1 || m.InDoubt || m.Fresh {
			t.Fatalf("message %d: %+v, want one attempt, not in doubt, not fresh", i, m)
		}
		w.grant(l, m)
	}
}

func deferralAndCrash(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(2, "midas")
	due := time.Now().Add(300 * time.Millisecond)
	began := map[gift.OrderID]time.Time{}
	for _, kind := range []fallbacklog.Kind{fallbacklog.Deferred, fallbacklog.Unknown} {
		m := w.receive(l)
		m.Attempts, m.Queries = 4, 2
		w.retry(l, m, kind, due)
		began[m.Order.ID] = m.Began
	}
	w.crash(0.5)
	l = w.lane("midas")
	for range 2 {
		m := w.receive(l)
		if time.Now().Before(due) {
			t.Fatalf("order %v comes before it is due", m.Order.ID)
		}
		unknown := w.story(m.Order.ID).State == gift.StateUnknown
		if m.Attempts != 5 || m.Queries != 2 || m.InDoubt != unknown || !m.Began.Equal(began[m.Order.ID]) || m.Fresh {
			t.Fatalf("got %+v, want 5 attempts, 2 queries, in doubt %v, began %v", m, unknown, began[m.Order.ID])
		}
		w.grant(l, m)
	}
}

func recordWithoutDefer(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(2, "midas")
	m := w.receive(l)
	w.retry(l, m, fallbacklog.Deferred, time.Now())
	for range 2 {
		m := w.receive(l)
		w.outcome(m, fallbacklog.Deferred, fallbacklog.Event{Attempts: m.Attempts + 1, Due: time.Now().Add(10 * time.Millisecond)})
	}
	w.status(l)
	w.kill()
	w.drain("midas", ids...)
}

func turns(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(3000, "midas")
	for range 100 {
		m := w.receive(l)
		w.retry(l, m, fallbacklog.Deferred, time.Now())
	}
	// From here on there are always both.
	var due, fresh int
	for range 100 {
		m := w.receive(l)
		if m.Attempts > 0 {
			due++
		} else {
			fresh++
		}
		w.retry(l, m, fallbacklog.Deferred, time.Now())
	}
	if due < 10 || fresh < 10 {
		t.Fatalf("of 100 messages %d were due and %d fresh", due, fresh)
	}
}
