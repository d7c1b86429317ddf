package queuetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

func reopen(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(600, "midas")
	w.grant(l, w.receive(l))
	held := w.receive(l)
	w.retry(l, w.receive(l), fallbacklog.Deferred, time.Now())
	if _, err := w.queue.Lane(context.Background(), w.prefix+"midas"); err == nil {
		t.Fatal("a lane that is open was opened again")
	}
	w.must(l.Close())
	w.must(l.Close())
	if err := l.Ack(context.Background(), held); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("Ack on a closed lane: %v, want ErrClosed", err)
	}
	if _, err := l.Receive(context.Background()); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("Receive on a closed lane: %v, want ErrClosed", err)
	}
	more := w.claims(10, "midas")
	delete(w.lanes, "midas")
	w.drain("midas", append(ids, more...)...)
}

func handBack(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(10, "midas")
	for range 5 {
		w.receive(l)
	}
	w.retry(l, w.receive(l), fallbacklog.Deferred, time.Now())
	other := w.lane("other")
	ended := make(chan error)
	go func() {
		_, err := other.Receive(context.Background())
		ended <- err
	}()
	closed := w.queue
	w.closeQueue()
	select {
	case err := <-ended:
		if !errors.Is(err, queue.ErrClosed) {
			t.Fatalf("a receiver that waits ends with %v, want ErrClosed", err)
		}
	case <-time.After(patience):
		t.Fatal("a receiver still waits in a closed queue")
	}
	if _, err := closed.Lane(context.Background(), w.prefix+"late"); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("opening a lane of a closed queue: %v, want ErrClosed", err)
	}
	w.openQueue()
	w.drain("midas", ids...)
}

func openWhileClaiming(t *testing.T, w *world) {
	const lanes = 10
	var names []string
	for i := range lanes {
		names = append(names, fmt.Sprint("lane-", i))
	}
	claimed := make(chan error)
	ids := make(map[string][]gift.OrderID)
	var recs []*fallbacklog.Record
	for range 1000 {
		rec := w.newClaim(names...)
		recs = append(recs, rec)
		for i, o := range rec.Claim.Orders {
			ids[names[i]] = append(ids[names[i]], o.ID)
		}
	}
	log := w.log
	go func() {
		for _, rec := range recs {
			if err := log.Append(context.Background(), rec); err != nil {
				claimed <- err
				return
			}
		}
		claimed <- nil
	}()
	for i, name := range names {
		for log.End() == log.First() || i > 0 && w.status(w.lane(names[i-1])).Backlog < int64(90*i) && w.engine.Exact {
			if err := log.Wait(context.Background(), log.End()); err != nil {
				t.Fatal(err)
			}
		}
		w.lane(name)
	}
	w.must(<-claimed)
	for _, name := range names {
		l := w.lane(name)
		var got []gift.OrderID
		for range ids[name] {
			m := w.receive(l)
			got = append(got, m.Order.ID)
			w.must(l.Ack(context.Background(), m))
		}
		w.inOrder(name, got, ids[name])
	}
}
