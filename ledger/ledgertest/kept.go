package ledgertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"manna/ledger"
)

const lease = time.Minute

func slotRun(id string, slot time.Time) ledger.RunStart {
	return ledger.RunStart{ID: id, Slot: slot, Node: "a", By: "cron", Lease: lease}
}

func slots(t *testing.T, e Engine) {
	c := newClock()
	l := open(t, e, "a", c.now)
	ctx := t.Context()
	none, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "slots of an empty ledger", none, ledger.Slots{})
	one, two, three := start(), start().Add(time.Hour), start().Add(2*time.Hour)
	r1, err := l.StartRun(ctx, slotRun("r1", one))
	ok(t, err)
	equal(t, "run", r1, ledger.Run{ID: "r1", Slot: one, Node: "a", By: "cron", Epoch: r1.Epoch, State: ledger.RunRunning, Started: c.now()})
	_, err = l.StartRun(ctx, slotRun("r1b", one))
	wantErr(t, err, ledger.ErrSlotHeld)
	_, err = l.StartRun(ctx, slotRun("r2", two))
	wantErr(t, err, ledger.ErrSlotHeld)
	held, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "slots while a run holds one", held, ledger.Slots{Started: one, Epoch: r1.Epoch, Holder: "r1", Lease: c.now().Add(lease)})
	c.advance(time.Second)
	heads := ledger.Headlines{From: one, To: two, Complete: true, Incomplete: []string{"node b: silent"}, Expected: 5, Actual: 4, InFlight: 1, Reissued: 2,
		Classes: map[string]int64{"matched": 3}, Discrepancies: 1, Report: "reports/r1"}
	for range 2 { // the answer to the first may have been lost
		ok(t, l.FinishRun(ctx, "r1", r1.Epoch, ledger.RunEnd{Headlines: heads}))
	}
	got, err := l.Run(ctx, "r1")
	ok(t, err)
	r1.State, r1.Finished, r1.Headlines = ledger.RunFinished, c.now(), heads
	equal(t, "finished run", got, r1)
	for _, id := range []string{"r1", "r1b"} {
		_, err = l.StartRun(ctx, slotRun(id, one))
		wantErr(t, err, ledger.ErrSlotTaken)
	}
	r3, err := l.StartRun(ctx, slotRun("r3", three))
	ok(t, err)
	if r3.Epoch <= r1.Epoch || !r3.Since.Equal(one) {
		t.Fatalf("run %+v, want an epoch above %d and a window from %v", r3, r1.Epoch, one)
	}
	// The window of the third slot covers the second.
	ok(t, l.FinishRun(ctx, "r3", r3.Epoch, ledger.RunEnd{}))
	_, err = l.StartRun(ctx, slotRun("r2", two))
	wantErr(t, err, ledger.ErrSlotTaken)
	end, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "slots at the end", end, ledger.Slots{Started: three, Finished: three, Epoch: r3.Epoch})
	_, err = l.Run(ctx, "r2")
	wantErr(t, err, ledger.ErrNotFound)
	wantErr(t, l.FinishRun(ctx, "r2", 1, ledger.RunEnd{}), ledger.ErrNotFound)
}

func contestedSlot(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	var all sync.WaitGroup
	won := make(chan string, 16)
	for i := range 16 {
		all.Go(func() {
			id := fmt.Sprint("r", i)
			_, err := l.StartRun(t.Context(), slotRun(id, start()))
			if err == nil {
				won <- id
			} else if !errors.Is(err, ledger.ErrSlotHeld) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "winners", len(won), 1)
}

func fencedRun(t *testing.T, e Engine) {
	c := newClock()
	l := open(t, e, "a", c.now)
	ctx := t.Context()
	old, err := l.StartRun(ctx, slotRun("old", start()))
	ok(t, err)
	c.advance(lease - 1)
	ok(t, l.RenewRun(ctx, "old", old.Epoch, lease))
	c.advance(lease - 1)
	_, err = l.StartRun(ctx, slotRun("new", start()))
	wantErr(t, err, ledger.ErrSlotHeld)
	c.advance(1)
	fresh, err := l.StartRun(ctx, slotRun("new", start()))
	ok(t, err)
	// The old leader wakes.
	wantErr(t, l.RenewRun(ctx, "old", old.Epoch, lease), ledger.ErrFenced)
	wantErr(t, l.FinishRun(ctx, "old", old.Epoch, ledger.RunEnd{}), ledger.ErrFenced)
	wantErr(t, l.RenewRun(ctx, "new", old.Epoch, lease), ledger.ErrFenced)
	crashed, err := l.Run(ctx, "old")
	ok(t, err)
	equal(t, "state of the old run", crashed.State, ledger.RunCrashed)
	s, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "finished slot", s.Finished, time.Time{})
	ok(t, l.RenewRun(ctx, "new", fresh.Epoch, lease))
	ok(t, l.FinishRun(ctx, "new", fresh.Epoch, ledger.RunEnd{}))
	wantErr(t, l.RenewRun(ctx, "new", fresh.Epoch, lease), ledger.ErrFenced)
}

func crashedRun(t *testing.T, e Engine) {
	c := newClock()
	l := e.Open(t, "a", c.now)
	ctx := t.Context()
	first, err := l.StartRun(ctx, slotRun("slot-12", start()))
	ok(t, err)
	_, err = l.StartRun(ctx, ledger.RunStart{ID: "by-hand", Node: "a", Lease: lease})
	ok(t, err)
	ok(t, l.Close())

	// Another node's process cannot know that a has crashed.
	l = e.Open(t, "b", c.now)
	_, err = l.StartRun(ctx, ledger.RunStart{ID: "slot-12b", Slot: start(), Node: "b", Lease: lease})
	wantErr(t, err, ledger.ErrSlotHeld)
	ok(t, l.Close())

	l = open(t, e, "a", c.now)
	for _, id := range []string{"slot-12", "by-hand"} {
		run, err := l.Run(ctx, id)
		ok(t, err)
		equal(t, "state of "+id, run.State, ledger.RunCrashed)
	}
	again, err := l.StartRun(ctx, slotRun("slot-12", start())) // under the same id
	ok(t, err)
	if again.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", again.Epoch, first.Epoch)
	}
	wantErr(t, l.FinishRun(ctx, "slot-12", first.Epoch, ledger.RunEnd{}), ledger.ErrFenced)
	ok(t, l.FinishRun(ctx, "slot-12", again.Epoch, ledger.RunEnd{}))
	s, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "finished slot", s.Finished, start())
}

func failedRun(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	ctx := t.Context()
	r, err := l.StartRun(ctx, slotRun("r1", start()))
	ok(t, err)
	ok(t, l.FinishRun(ctx, "r1", r.Epoch, ledger.RunEnd{Err: "node b: its log is not here"}))
	s, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "slots", s, ledger.Slots{Started: start(), Epoch: r.Epoch})
	again, err := l.StartRun(ctx, slotRun("r2", start()))
	ok(t, err)
	ok(t, l.FinishRun(ctx, "r2", again.Epoch, ledger.RunEnd{}))
	got, err := l.Run(ctx, "r1")
	ok(t, err)
	equal(t, "why it failed", string(got.State)+": "+got.Err, "failed: node b: its log is not here")
}

func runsByHand(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	ctx := t.Context()
	_, err := l.StartRun(ctx, slotRun("cron", start()))
	ok(t, err)
	r, err := l.StartRun(ctx, ledger.RunStart{ID: "hand", Node: "a", By: "ana", Dry: true, Lease: lease})
	ok(t, err)
	if r.Epoch != 0 || !r.Dry || r.By != "ana" {
		t.Fatalf("run %+v", r)
	}
	ok(t, l.RenewRun(ctx, "hand", 0, lease))
	ok(t, l.FinishRun(ctx, "hand", 0, ledger.RunEnd{}))
	for _, s := range []ledger.RunStart{{ID: "hand", Node: "a"}, slotRun("hand", start().Add(time.Hour)), {ID: "cron", Node: "a"}} {
		_, err = l.StartRun(ctx, s)
		wantErr(t, err, ledger.ErrRunExists)
	}
	s, err := l.LastSlot(ctx)
	ok(t, err)
	equal(t, "holder of the slot", s.Holder, "cron")
	equal(t, "finished slot", s.Finished, time.Time{})
}

func pagesOfRuns(t *testing.T, e Engine) {
	c := newClock()
	l := open(t, e, "a", c.now)
	var want []string
	for i := range 10 {
		id := fmt.Sprintf("r%02d", i)
		_, err := l.StartRun(t.Context(), ledger.RunStart{ID: id, Node: "a"})
		ok(t, err)
		want = append([]string{id}, want...)
		if i%3 == 0 {
			c.advance(time.Second)
		}
	}
	for _, limit := range []int{1, 4, 10} {
		var got []string
		var at ledger.Cursor
		for first := true; first || !at.IsZero(); first = false {
			runs, next, err := l.Runs(t.Context(), at, limit)
			ok(t, err)
			for _, r := range runs {
				got = append(got, r.ID)
			}
			at = next
		}
		equal(t, fmt.Sprint("runs in pages of ", limit), got, want)
	}
}

func audit(t *testing.T, e Engine) {
	c := newClock()
	l := e.Open(t, "a", c.now)
	ctx := t.Context()
	for i := range 12 {
		entry := ledger.Entry{Who: []string{"ana", "ben"}[i%2], Role: "operator", Action: []string{"settle", "reconcile", "retry"}[i%3],
			Target: fmt.Sprint("order-", i), Detail: "d", Result: "done", Node: "a"}
		ok(t, l.Audit(ctx, entry))
		if i%4 == 3 {
			c.advance(time.Second)
		}
	}
	ok(t, l.Apply(ctx, batch("a", 0, switched("queue", "held_open", start()), switched("queue", "automatic", start().Add(2*time.Second)))))
	ok(t, l.Close())
	l = open(t, e, "a", c.now)
	list := func(f ledger.AuditFilter, limit int) (all []string) {
		t.Helper()
		for first := true; first || !f.Before.IsZero(); first = false {
			entries, next, err := l.AuditLog(ctx, f, limit)
			ok(t, err)
			for _, e := range entries {
				all = append(all, fmt.Sprint(e.Who, " ", e.Action, " ", e.Target))
			}
			f.Before = next
		}
		return all
	}
	everything := list(ledger.AuditFilter{}, 100)
	equal(t, "number of entries", len(everything), 14)
	for limit := 1; limit <= 14; limit++ {
		equal(t, fmt.Sprint("entries in pages of ", limit), list(ledger.AuditFilter{}, limit), everything)
	}
	equal(t, "of ben, retried", list(ledger.AuditFilter{Who: "ben", Action: "retry"}, 1), []string{"ben retry order-11", "ben retry order-5"})
	equal(t, "of a target", list(ledger.AuditFilter{Target: "order-0"}, 1), []string{"ana settle order-0"})
	equal(t, "in a second", list(ledger.AuditFilter{Since: start().Add(time.Second), Until: start().Add(2 * time.Second)}, 3),
		[]string{"ben reconcile order-7", "ana settle order-6", "ben retry order-5", "ana reconcile order-4"})

	ok(t, l.Audit(ctx, ledger.Entry{Who: "ana", Action: "long", Detail: strings.Repeat("ä", 9000), Time: start().Add(time.Hour)}))
	entries, _, err := l.AuditLog(ctx, ledger.AuditFilter{Action: "long"}, 1)
	ok(t, err)
	if d := entries[0].Detail; len(d) > 4096 || len(d) < 4000 || !utf8.ValidString(d) || !entries[0].Time.Equal(start().Add(time.Hour)) {
		t.Fatalf("a long entry came back with %d bytes at %v", len(d), entries[0].Time)
	}
}

func keptOutlivesDerived(t *testing.T, e Engine) {
	l := e.Open(t, "a", time.Now)
	ctx := t.Context()
	r, err := l.StartRun(ctx, slotRun("r1", start()))
	ok(t, err)
	ok(t, l.FinishRun(ctx, "r1", r.Epoch, ledger.RunEnd{}))
	ok(t, l.Audit(ctx, ledger.Entry{Who: "ana", Action: "settle"}))
	ok(t, l.Reset(ctx, "a"))
	ok(t, l.Close())
	e.LoseDerived(t)
	l = open(t, e, "a", time.Now)
	runs, _, err := l.Runs(ctx, ledger.Cursor{}, 0)
	ok(t, err)
	entries, _, err := l.AuditLog(ctx, ledger.AuditFilter{}, 0)
	ok(t, err)
	s, err := l.LastSlot(ctx)
	ok(t, err)
	if len(runs) != 1 || len(entries) != 1 || !s.Finished.Equal(start()) {
		t.Fatalf("%d runs, %d audit entries, slots %+v; want 1, 1 and a finished slot", len(runs), len(entries), s)
	}
}
