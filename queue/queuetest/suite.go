package queuetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// Run puts an engine through the suite.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"first deliveries come in order of age", order},
		{"a crash at any point loses nothing", crashAnywhere},
		{"what was not acknowledged is received again", outOfOrder},
		{"a deferred order comes back when it is due", deferral},
		{"a deferred order comes back after a crash", deferralAndCrash},
		{"an outcome without its Defer is not lost", recordWithoutDefer},
		{"an attempt without an outcome is in doubt", attemptAndCrash},
		{"fresh and due orders do not starve each other", turns},
		{"a reissue overtakes the backlog", reissueOvertakes},
		{"a reissue of a held order is looked at again", reissueOfHeld},
		{"a reissue before the first delivery is one order", reissueAhead},
		{"orders of one claim are let go one by one", packs},
		{"a lane that nobody receives from holds no other", independence},
		{"a lane can be closed and opened again", reopen},
		{"closing hands back what is held", handBack},
		{"the status counts what is there", counts},
		{"a long backlog takes no memory", memory},
		{"receivers share a lane", receivers},
		{"receivers that wait are woken", wakeUps},
		{"a lane opened while claims come in misses none", openWhileClaiming},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, e)
			c.run(t, w)
			w.close()
		})
	}
	t.Run("watermarks cover whatever has not been let go", func(t *testing.T) { property(t, e) })
}

func order(t *testing.T, w *world) {
	l := w.lane("midas")
	first := w.claims(300, "midas")
	last := w.claims(300, "midas")
	for i, want := range append(first, last...) {
		m := w.receive(l)
		if m.Order.ID != want {
			t.Fatalf("message %d is order %v, want %v", i, m.Order.ID, want)
		}
		if m.Attempts != 0 || m.InDoubt {
			t.Fatalf("message %d: %+v, want one that nobody tried", i, m)
		}
		w.grant(l, m)
	}
	if m := w.tryReceive(l, 20*time.Millisecond); m != nil {
		t.Fatalf("received %v again", m.Order.ID)
	}
}

// crashAnywhere stops a run of orders through receive, record and acknowledgement
// after each of its steps, on disks that keep nothing, half and all of what was
// not synced.
func crashAnywhere(t *testing.T, w *world) {
	const orders = 4
	for i, keep := range []float64{0, 0.5, 1} {
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

func deferral(t *testing.T, w *world) {
	l := w.lane("midas")
	ids := w.claims(3, "midas")
	now := time.Now()
	due := map[gift.OrderID]time.Time{}
	for i, after := range []time.Duration{150 * time.Millisecond, 50 * time.Millisecond, 0} {
		m := w.receive(l)
		due[m.Order.ID] = now.Add(after)
		w.retry(l, m, fallbacklog.Deferred, due[ids[i]])
	}
	for i := range ids {
		m := w.receive(l)
		if now := time.Now(); now.Before(due[m.Order.ID]) {
			t.Fatalf("order %v comes %v before it is due", m.Order.ID, due[m.Order.ID].Sub(now))
		}
		if want := ids[2-i]; m.Order.ID != want {
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

func reissueOvertakes(t *testing.T, w *world) {
	l := w.lane("midas")
	w.claims(1, "midas")
	m := w.receive(l)
	w.outcome(m, fallbacklog.Parked, fallbacklog.Event{Attempts: 3, Reason: "exhausted"})
	w.must(l.Ack(context.Background(), m))
	w.claims(5000, "midas")
	w.grant(l, w.receive(l))
	w.reissue(m.Claim, m.Order, m.Origin)
	for range 50 {
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
	t.Fatal("50 messages came before the reissued one")
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
	l := w.lane("midas")
	before := w.claims(1000, "midas")
	rec := w.newClaim("midas")
	w.append(rec)
	w.reissue(rec.Claim, rec.Claim.Orders[0], rec.At)
	id := rec.Claim.Orders[0].ID
	w.drain("midas", id)
	w.kill()
	l = w.lane("midas")
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

func packs(t *testing.T, w *world) {
	l := w.lane("midas")
	c := w.claim("midas", "iris", "midas", "midas")
	last := w.claim("midas")
	a, b, d := w.receive(l), w.receive(l), w.receive(l)
	for i, m := range []*queue.Message{a, b, d} {
		if want := c.Orders[[]int{0, 2, 3}[i]].ID; m.Order.ID != want {
			t.Fatalf("message %d is order %v, want %v", i, m.Order.ID, want)
		}
	}
	w.grant(l, d)
	w.grant(l, a)
	w.grant(l, w.receive(l))
	if s := w.status(l); s.Oldest.IsZero() || s.Oldest.After(c.ClaimedAt) {
		t.Fatalf("the oldest is %v, want one not after %v", s.Oldest, c.ClaimedAt)
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
	for i, want := range ids {
		m := w.receive(awake)
		if m.Order.ID != want {
			t.Fatalf("message %d is order %v, want %v", i, m.Order.ID, want)
		}
		w.grant(awake, m)
	}
}

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
	if s := w.status(l); !s.Oldest.IsZero() || !s.OldestDue.IsZero() || time.Since(s.AsOf) > patience {
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

// memory holds a backlog of 30 MB of decoded claims against 8 MB.
func memory(t *testing.T, w *world) {
	const backlog, bound = 50_000, 8 << 20
	w.claims(backlog, "midas")
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	w.restart()
	before := heap()
	l := w.lane("midas")
	for range 10 {
		w.receive(l)
	}
	w.status(l)
	if grown := heap() - before; grown > bound {
		t.Fatalf("a lane with a backlog of %d takes %d bytes, want at most %d", backlog, grown, bound)
	}
}

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
	for range 2 {
		go func() {
			m, err := l.Receive(ctx)
			if err != nil {
				t.Errorf("receive: %v", err)
			}
			got <- m
		}()
	}
	// Both have seen the outcome's record and found nothing to receive yet.
	w.outcome(m, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: time.Now()})
	w.status(l)
	if again := w.tryReceive(l, 50*time.Millisecond); again != nil {
		if w.engine.Exact {
			t.Fatalf("order %v is held and received once more", again.Order.ID)
		}
		w.must(l.Ack(ctx, again))
	}
	w.must(l.Defer(ctx, m, time.Now()))
	w.grant(l, <-got)
	go func() {
		m, err := l.Receive(ctx)
		if err != nil {
			t.Errorf("receive: %v", err)
		}
		got <- m
	}()
	if m := w.tryReceive(l, 50*time.Millisecond); m != nil {
		t.Fatalf("received %v out of nothing", m.Order.ID)
	}
	w.claim("midas", "midas")
	for range 2 {
		m := <-got
		if m == nil {
			t.Fatal("of two receivers one sleeps on")
		}
		w.grant(l, m)
	}
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
		for i, want := range ids[name] {
			m := w.receive(l)
			if m.Order.ID != want {
				t.Fatalf("%s: message %d is order %v, want %v", name, i, m.Order.ID, want)
			}
			w.must(l.Ack(context.Background(), m))
		}
	}
}
