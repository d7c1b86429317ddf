package queuetest

import (
	"context"
	"testing"
	"time"

	"manna/fallbacklog"
)

func reissueOvertakes(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(1, "midas")
	m := w.receive(l)
	w.outcome(m, fallbacklog.Parked, fallbacklog.Event{Attempts: 3, Reason: "exhausted"})
	w.must(l.Ack(context.Background(), m))
	const backlog = 5000
	w.claims(backlog, "midas")
	w.grant(l, w.receive(l))
	w.reissue(m.Claim, m.Order, m.Origin)
	// Where it has to travel, some are received meanwhile.
	within := 50
	if !w.engine.Exact {
		within = backlog / 2
	}
	for range within {
		got := w.receive(l)
		if got.Order.ID == m.Order.ID {
			if got.Fresh || got.InDoubt {
				t.Fatalf("got %+v, want an order that is not fresh and not in doubt", got)
			}
			w.grant(l, got)
			return
		}
		w.grant(l, got)
	}
	t.Fatalf("%d messages came before the reissued one", within)
}

func reissueOfHeld(t *testing.T, w *world) {
	l := w.lane("midas")
	for _, kind := range []fallbacklog.Kind{fallbacklog.Granted, fallbacklog.Deferred, fallbacklog.Parked} {
		ids := w.claims(1, "midas")
		m := w.receive(l)
		w.reissue(m.Claim, m.Order, m.Origin)
		if got := w.tryReceive(l, 20*time.Millisecond); got != nil {
			if w.engine.Exact {
				t.Fatalf("order %v is held and received once more", got.Order.ID)
			}
			w.must(l.Ack(context.Background(), got))
		}
		switch kind {
		case fallbacklog.Granted:
			w.grant(l, m)
			if got := w.tryReceive(l, 20*time.Millisecond); got != nil {
				if w.engine.Exact || got.Fresh {
					t.Fatalf("order %v is settled and received: %+v", got.Order.ID, got)
				}
				w.must(l.Ack(context.Background(), got))
			}
		case fallbacklog.Deferred:
			w.retry(l, m, kind, time.Now())
			w.drain("midas", ids...)
		case fallbacklog.Parked:
			w.outcome(m, kind, fallbacklog.Event{Reason: "by hand"})
			w.reissue(m.Claim, m.Order, m.Origin)
			w.must(l.Ack(context.Background(), m))
			w.drain("midas", ids...)
		}
	}
}

// reissueAhead settles an order whose first delivery is far from its turn.
func reissueAhead(t *testing.T, w *world) {
	w.lane("midas")
	before := w.claims(1000, "midas")
	rec := w.newClaim("midas")
	w.append(rec)
	w.reissue(rec.Claim, rec.Claim.Orders[0], rec.At)
	id := rec.Claim.Orders[0].ID
	w.drain("midas", id)
	w.kill()
	l := w.lane("midas")
	after := w.claims(1, "midas")
	for {
		m := w.receive(l)
		if m.Order.ID == id && m.Fresh {
			t.Fatal("the order is settled and called fresh")
		}
		if !w.story(m.Order.ID).State.Final() {
			w.grant(l, m)
		} else {
			w.must(l.Ack(context.Background(), m))
		}
		if m.Order.ID == after[0] {
			break
		}
	}
	w.drain("midas", before...)
}
