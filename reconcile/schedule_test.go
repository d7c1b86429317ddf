package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/internal/schedule"
	"manna/ledger"
	"manna/ledger/sqlite"
)

// history is the real ledger, with a switch that takes it away.
type history struct {
	*sqlite.Ledger
	mu   sync.Mutex
	down int // calls that fail from now on
}

var errDown = errors.New("ledger is down")

func newHistory(t testing.TB) *history {
	t.Helper()
	l, err := sqlite.Open(context.Background(), sqlite.Options{Dir: t.TempDir(), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &history{Ledger: l}
}

func (h *history) up() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down == 0 {
		return nil
	}
	h.down--
	return errDown
}

func (h *history) LastSlot(ctx context.Context) (ledger.Slots, error) {
	if err := h.up(); err != nil {
		return ledger.Slots{}, err
	}
	return h.Ledger.LastSlot(ctx)
}

func (h *history) StartRun(ctx context.Context, s ledger.RunStart) (ledger.Run, error) {
	if err := h.up(); err != nil {
		return ledger.Run{}, err
	}
	return h.Ledger.StartRun(ctx, s)
}

// all lists the runs, the first one first.
func (h *history) all(t testing.TB) []ledger.Run {
	t.Helper()
	runs, _, err := h.Runs(context.Background(), ledger.Cursor{}, ledger.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(runs)
	return runs
}

// slots names the runs that took a slot, "!" where one failed.
func (h *history) slots(t testing.TB) string {
	var names []string
	for _, r := range h.all(t) {
		if r.Slot.IsZero() {
			continue
		}
		name := r.ID
		if r.State != ledger.RunFinished {
			name += "!"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func newScheduled(t testing.TB, change func(*Options)) (*world, *history, *Scheduler) {
	t.Helper()
	runs := newHistory(t)
	w := newWorld(t, func(o *Options) {
		o.Runs = runs
		if change != nil {
			change(o)
		}
	})
	s, err := NewScheduler(w.rec, "7 * * * *")
	w.must(err)
	return w, runs, s
}

func TestMissedSlotsAreCaughtUpOnce(t *testing.T) {
	w, runs, s := newScheduled(t, nil)
	ctx := context.Background()
	w.must(s.slots(ctx))
	if got := runs.slots(t); got != "" {
		t.Fatalf("ran %q in an empty log", got)
	}
	w.granted("first", eight.Add(30*time.Minute))
	w.claim("lost", eight.Add(90*time.Minute))
	w.set(eight.Add(3*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	if got, want := runs.slots(t), "2027-02-05T20 2027-02-05T21 2027-02-05T22"; got != want {
		t.Fatalf("ran %q, want %q", got, want)
	}
	w.wantReissued(1)
	// A new process, the same hour: nothing is left to do.
	s, err := NewScheduler(w.rec, "7 * * * *")
	w.must(err)
	w.must(s.slots(ctx))
	if got, want := runs.slots(t), "2027-02-05T20 2027-02-05T21 2027-02-05T22"; got != want {
		t.Fatalf("ran %q, want %q", got, want)
	}
	w.wantReissued(1)
	w.set(eight.Add(4*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	if got, want := runs.slots(t), "2027-02-05T20 2027-02-05T21 2027-02-05T22 2027-02-05T23"; got != want {
		t.Fatalf("ran %q, want %q", got, want)
	}
}

func TestWhatWasMissedLongAgoIsOneRun(t *testing.T) {
	w, runs, s := newScheduled(t, nil)
	w.granted("first", eight.Add(30*time.Minute))
	w.set(eight.Add(60*time.Hour + 7*time.Minute))
	w.must(s.slots(context.Background()))
	names := strings.Fields(runs.slots(t))
	if len(names) != 1+maxCatchUp || names[0] != "2027-02-05T20..2027-02-06T08" || names[1] != "2027-02-06T08" || names[maxCatchUp] != "2027-02-08T07" {
		t.Fatalf("ran %d slots: %v", len(names), names)
	}
}

func TestASlotBehindAClosedGateIsRunAgain(t *testing.T) {
	w, runs, s := newScheduled(t, func(o *Options) { o.BacklogUnder = 1 })
	ctx := context.Background()
	w.claim("lost", eight.Add(10*time.Minute))
	w.append(newClaim("waiting", eight.Add(50*time.Minute)))
	w.set(eight.Add(3*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	if got, want := runs.slots(t), "2027-02-05T20!"; got != want {
		t.Fatalf("ran %q, want %q", got, want)
	}
	// What came after is told in one report.
	if r, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, "start..2027-02-05T23"); err != nil || r.Classes.Missing != 1 || r.InFlight != 1 {
		t.Fatalf("the look at everything reads %+v, %v", r, err)
	}
	w.wantReissued(0)
	m := w.take()
	w.append(about(&fallbacklog.Record{Claim: m.Claim, At: m.Origin}, fallbacklog.Granted, w.now(), fallbacklog.Event{Reference: "R"}))
	w.must(w.lanes["midas"].Ack(ctx, m))
	w.set(eight.Add(4*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	if got, want := runs.slots(t), "2027-02-05T20 2027-02-05T21 2027-02-05T22 2027-02-05T23"; got != want {
		t.Fatalf("ran %q, want %q", got, want)
	}
	w.wantReissued(1)
}

func TestAnOrderIsLookedAtUntilItIsFinal(t *testing.T) {
	w, _, s := newScheduled(t, nil)
	ctx := context.Background()
	// The lane holds it for hours, then forgets it.
	w.append(newClaim("slow", eight.Add(10*time.Minute)))
	m := w.take()
	for hour := 1; hour <= 5; hour++ {
		w.set(eight.Add(time.Duration(hour)*time.Hour + 7*time.Minute))
		w.must(s.slots(ctx))
	}
	w.wantReissued(0)
	w.must(w.lanes["midas"].Ack(ctx, m))
	w.set(eight.Add(6*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	w.wantReissued(1)
	// It is on its way again, and then final: the looks come closer.
	m = w.take()
	w.append(about(&fallbacklog.Record{Claim: m.Claim, At: m.Origin}, fallbacklog.Granted, w.now(), fallbacklog.Event{Reference: "R"}))
	w.must(w.lanes["midas"].Ack(ctx, m))
	w.set(eight.Add(7*time.Hour + 7*time.Minute))
	w.must(s.slots(ctx))
	if want := eight.Add(6 * time.Hour); !s.looked.Equal(want) {
		t.Fatalf("looked up to %v, want %v", s.looked, want)
	}
}

func TestAnOldLeaderDoesNothing(t *testing.T) {
	w, runs, _ := newScheduled(t, nil)
	ctx := context.Background()
	w.claim("lost", eight)
	// While this one reads the log, its lease ends and another takes the slot.
	w.asked["midas"] = laneFunc(func() {
		slots, err := runs.LastSlot(ctx)
		w.must(err)
		w.must(runs.FinishRun(ctx, slots.Holder, slots.Epoch, ledger.RunEnd{Err: "lease ended"}))
		_, err = runs.StartRun(ctx, ledger.RunStart{ID: "2027-02-05T20", Slot: eight, Node: "b", By: "cron", Lease: lease})
		w.must(err)
	})
	if _, err := w.rec.run(ctx, Slot(eight), eight); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	w.wantReissued(0)
	if _, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, "2027-02-05T20"); !errors.Is(err, ErrNoReport) {
		t.Fatalf("the old leader left a report: %v", err)
	}
	run, err := runs.Run(ctx, "2027-02-05T20")
	w.must(err)
	if run.State != ledger.RunRunning || run.Node != "b" {
		t.Fatalf("the new leader's run reads %+v", run)
	}
}

func TestAnOldLeaderLeavesNoReport(t *testing.T) {
	w, runs, _ := newScheduled(t, nil)
	ctx := context.Background()
	w.granted("u", eight) // there is nothing to reissue
	w.asked["midas"] = laneFunc(func() {
		slots, err := runs.LastSlot(ctx)
		w.must(err)
		w.must(runs.FinishRun(ctx, slots.Holder, slots.Epoch, ledger.RunEnd{Err: "lease ended"}))
	})
	if _, err := w.rec.run(ctx, Slot(eight), eight); !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	if _, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, "2027-02-05T20"); !errors.Is(err, ErrNoReport) {
		t.Fatalf("the old leader left a report: %v", err)
	}
}

func TestALongRunRenewsItsLease(t *testing.T) {
	w, runs, _ := newScheduled(t, nil)
	ctx := context.Background()
	e, err := w.rec.begin(ctx, Slot(eight), eight)
	w.must(err)
	before, err := runs.LastSlot(ctx)
	w.must(err)
	w.must(e.alive(ctx))
	if now, _ := runs.LastSlot(ctx); now.Lease != before.Lease {
		t.Fatal("the lease was renewed at once")
	}
	w.set(w.now().Add(renewEvery))
	w.must(e.alive(ctx))
	if now, _ := runs.LastSlot(ctx); !now.Lease.After(before.Lease) {
		t.Fatalf("the lease ends at %v still", now.Lease)
	}
	w.must(e.fail(ctx, errors.New("enough")))
	run, err := runs.Run(ctx, e.id)
	w.must(err)
	if run.State != ledger.RunFailed || run.Err != "enough" {
		t.Fatalf("the run reads %+v", run)
	}
}

func TestASchedulerSaysWhatToWrite(t *testing.T) {
	w, _, _ := newScheduled(t, nil)
	if _, err := NewScheduler(w.rec, "@hourly"); err == nil || !strings.Contains(err.Error(), schedule.Want) {
		t.Errorf("got %v, want an error that says what to write", err)
	}
	if _, err := NewScheduler(newWorld(t, nil).rec, "7 * * * *"); err == nil {
		t.Error("a scheduler without a history was made")
	}
}

func TestHistoryHoldsTheHeadlines(t *testing.T) {
	w, runs, s := newScheduled(t, nil)
	w.granted("u", eight)
	w.claim("lost", eight)
	w.must(s.slots(context.Background()))
	run, err := runs.Run(context.Background(), "2027-02-05T20")
	w.must(err)
	h := run.Headlines
	if h.Expected != 2 || h.Actual != 1 || h.Reissued != 1 || h.Discrepancies != 1 || !h.Complete || h.Classes["missing"] != 1 || h.Classes["unknown"] != 0 || run.By != "cron" || run.Node != "a" {
		t.Fatalf("the run reads %+v", run)
	}
	if !strings.HasSuffix(h.Report, "reports/2027-02-05T20") {
		t.Fatalf("the report is at %q", h.Report)
	}
	if fmt.Sprint(h.From, h.To) != fmt.Sprint(eight, eight.Add(time.Hour)) {
		t.Fatalf("from %v to %v", h.From, h.To)
	}
}

// TestTheClock runs the scheduler on a fake clock: the first tick is at once, the
// others come at seven past, and while the ledger is down it waits and says so.
func TestTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(eight.Add(30 * time.Minute))) // the bubble's clock
		w, runs, s := newScheduled(t, nil)
		w.set(time.Time{})
		w.granted("u", time.Now())
		time.Sleep(40 * time.Minute) // 21:10
		runs.down = 3
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(30 * time.Second)
		if got, want := runs.slots(t), "2027-02-05T20"; got != want {
			t.Errorf("ran %q, want %q", got, want)
		}
		if got := strings.Count(w.said.String(), "reconciliation waits for the history of runs"); got != 3 {
			t.Errorf("it said %d times that it waits, want 3", got)
		}
		if first := runs.all(t)[0].Started.Sub(began); first < 7*time.Second || first > 8*time.Second {
			t.Errorf("the first run began %v after the ledger went down, want 1 s + 2 s + 4 s", first)
		}
		time.Sleep(2 * time.Hour) // 23:10
		if got, want := runs.slots(t), "2027-02-05T20 2027-02-05T21 2027-02-05T22"; got != want {
			t.Errorf("ran %q, want %q", got, want)
		}
		run, err := runs.Run(ctx, "2027-02-05T21")
		w.must(err)
		if want := eight.Add(2*time.Hour + 7*time.Minute); run.Started.Truncate(time.Second) != want {
			t.Errorf("the slot was run at %v, want %v", run.Started, want)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}
