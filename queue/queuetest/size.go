package queuetest

import (
	"runtime"
	"testing"
	"time"

	"manna/fallbacklog"
)

func counts(t *testing.T, w *world) {
	l := w.lane("midas")
	check := func(backlog, deferred, held int64) {
		t.Helper()
		s := w.status(l)
		if s.Backlog != backlog || s.Deferred != deferred || s.Held != held {
			t.Fatalf("backlog %d, deferred %d, held %d; want %d, %d, %d", s.Backlog, s.Deferred, s.Held, backlog, deferred, held)
		}
	}
	check(0, 0, 0)
	s := w.status(l)
	// An engine that cannot see all that is deferred names a time all the same.
	dull := !w.engine.Exact && s.AsOf.Sub(s.OldestDue) < time.Hour
	if !s.Oldest.IsZero() || !s.OldestSeen.IsZero() || !s.OldestDue.IsZero() && !dull || time.Since(s.AsOf) > patience {
		t.Fatalf("an empty lane has the status %+v", s)
	}
	w.claims(5, "midas")
	if !w.engine.Exact {
		w.grant(l, w.receive(l))
		return
	}
	check(5, 0, 0)
	m := w.receive(l)
	check(4, 0, 1)
	due := time.Now().Add(time.Hour)
	w.retry(l, m, fallbacklog.Deferred, due)
	check(4, 1, 0)
	if s := w.status(l); !s.OldestDue.Equal(due.Truncate(time.Millisecond)) {
		t.Fatalf("the earliest due time is %v, want %v", s.OldestDue, due.Truncate(time.Millisecond))
	}
	for range 4 {
		w.grant(l, w.receive(l))
	}
	check(0, 1, 0)
	if s := w.status(l); !s.Oldest.IsZero() {
		t.Fatalf("everything has been let go and the oldest is %v", s.Oldest)
	}
	w.claims(700, "midas")
	for range 5 {
		w.grant(l, w.receive(l))
	}
	w.restart()
	l = w.lane("midas")
	check(695, 1, 0)
	w.claims(5, "midas")
	check(700, 1, 0)
	w.claims(700, "other")
	for left := int64(699); left >= 0; left-- {
		w.grant(l, w.receive(l))
		check(left, 1, 0)
	}
}

// memory compares what is in use with a lane open and after it has been closed,
// with a backlog that takes 30 MB when it is decoded.
func memory(t *testing.T, w *world) {
	const backlog, bound = 50_000, 4 << 20
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	measure := func(when string) {
		t.Helper()
		for range 10 {
			w.receive(w.lane("midas"))
		}
		w.status(w.lane("midas"))
		open := heap()
		w.must(w.lane("midas").Close())
		delete(w.lanes, "midas")
		if taken := open - heap(); taken > bound {
			t.Fatalf("a lane with a backlog of %d takes %d bytes %s, want at most %d", backlog, taken, when, bound)
		}
	}
	w.lane("midas")
	w.claims(backlog, "midas")
	measure("that came while it was open")
	measure("that it found when it was opened again")
	w.restart()
	measure("after a restart")
}
