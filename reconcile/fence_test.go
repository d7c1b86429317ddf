package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/ledger"
)

// lostOne is a fleet in which an order claimed at node b was lost, at half past
// eleven, and every log bears that out.
func lostOne(t *testing.T, names ...string) *fleet {
	f := newFleet(t, names...)
	f.claim("b", "lost")
	f.feed("b")
	f.pass(time.Minute)
	f.broker.forget()
	f.pass(59 * time.Minute)
	f.look()
	f.pass(30 * time.Minute)
	f.arrive(names...)
	return f
}

func (f *fleet) scheduler(node string) *Scheduler {
	f.t.Helper()
	s, err := NewScheduler(f.nodes[node].rec, "7 * * * *")
	f.must(err)
	return s
}

// wrote are the kinds of the records in a node's log.
func (f *fleet) wrote(node string) (kinds []fallbacklog.Kind) {
	for _, rec := range readAll(f.t, f.nodes[node].log) {
		kinds = append(kinds, rec.Kind)
	}
	return kinds
}

// The runner takes no claims and serves no lane: all that it compares is in other
// nodes' logs, and all that it writes is what it reissues.
func TestARunnerWithoutLanesOfItsOwn(t *testing.T) {
	f := lostOne(t, "r", "b", "c")
	defer f.close()
	report := f.run(ten)
	if report.Reissued != 1 || !report.Done || !report.Complete {
		t.Fatalf("reissued %d, gate %q, incomplete %q", report.Reissued, report.Gate, report.Incomplete)
	}
	if got := f.wrote("r"); !slices.Equal(got, []fallbacklog.Kind{fallbacklog.Reissued}) {
		t.Fatalf("the runner's log has %v", got)
	}
	m := f.broker.deferred[0].msg
	if m.Claim.User != "lost" || m.Origin != 0 || m.InDoubt || m.Order.SKU != "V30" {
		t.Fatalf("the message reads %+v", m)
	}
	f.pass(time.Second)
	f.event("c", &fallbacklog.Record{Claim: m.Claim}, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.broker.forget()
	f.settle()
	if report, want := f.run(ten), (Counts{Matched: 1}); report.Classes != want || report.Reissued != 0 {
		t.Fatalf("got %+v, reissued %d; want %+v", report.Classes, report.Reissued, want)
	}
}

// What one runner has reissued the other can see only once that log has arrived:
// until then it reissues nothing, by whatever name it runs.
func TestARunnerWaitsForWhatAnotherReissued(t *testing.T) {
	f := lostOne(t, "r", "b", "s")
	defer f.close()
	f.reconciles(f.nodes["s"])
	f.look()
	f.pass(2 * time.Minute)
	f.arrive("r", "b")
	f.pass(time.Minute)
	if report := f.run(ten); report.Reissued != 1 {
		// s has not arrived as far as r's and b's; it need not, for the slot.
		t.Fatalf("reissued %d, gate %q, incomplete %q", report.Reissued, report.Gate, report.Incomplete)
	}
	for _, q := range []Request{ten, {From: ten.From, To: ten.To.Add(time.Minute)}} {
		report := f.run(q, "s")
		if report.Reissued != 0 || report.GateOpen || report.Done || !strings.HasPrefix(report.Gate, "closed: run 2027-02-05T22+") || !strings.Contains(report.Gate, "of node r ended at 23:33:00Z, and the node's log has arrived up to 23:32:00Z") {
			t.Fatalf("reissued %d, done %v, gate %q", report.Reissued, report.Done, report.Gate)
		}
	}
	f.settle()
	if report := f.run(ten, "s"); report.Reissued != 0 || report.InFlight != 1 || !report.Done || !report.GateOpen {
		t.Fatalf("once the log is there: reissued %d, %+v, gate %q", report.Reissued, report.Classes, report.Gate)
	}
	// Lost once more, it is s that brings it back.
	f.broker.forget()
	f.settle()
	if report := f.run(ten, "s"); report.Reissued != 1 {
		t.Fatalf("reissued %d, %+v, gate %q", report.Reissued, report.Classes, report.Gate)
	}
	f.broker.wantSent(2)
}

// A run that goes on elsewhere, or ended nobody knows how, may reissue anything.
func TestARunnerWaitsForARunThatDoesNotEnd(t *testing.T) {
	f := lostOne(t, "r", "b", "s")
	defer f.close()
	ctx := context.Background()
	_, err := f.ledger.StartRun(ctx, ledger.RunStart{ID: "by-hand", Node: "s", By: "ana", Lease: lease})
	f.must(err)
	f.pass(time.Minute)
	if report := f.run(ten); report.Reissued != 0 || !strings.HasPrefix(report.Gate, "closed: run by-hand of node s goes on") {
		t.Fatalf("reissued %d, gate %q", report.Reissued, report.Gate)
	}
	// A slot fences whatever has begun before; what that wrote is in the logs soon.
	slot, err := f.ledger.StartRun(ctx, ledger.RunStart{ID: "slot", Slot: ten.From, Node: "b", By: "cron", Lease: lease})
	f.must(err)
	f.must(f.ledger.FinishRun(ctx, slot.ID, slot.Epoch, ledger.RunEnd{Err: "no", Headlines: ledger.Headlines{To: ten.To}}))
	if report := f.run(ten); report.Reissued != 0 || !strings.HasPrefix(report.Gate, "closed: run by-hand of node s ended at 23:31:00Z") {
		t.Fatalf("reissued %d, gate %q", report.Reissued, report.Gate)
	}
	f.pass(2 * time.Minute)
	f.arrive("b", "s")
	if report := f.run(ten); report.Reissued != 1 {
		t.Fatalf("reissued %d, gate %q", report.Reissued, report.Gate)
	}
}

// An old leader wakes after its lease has ended and another has run the slot: it
// writes nothing, neither records nor messages nor a report nor history.
func TestALeaderThatWakesTooLateWritesNothing(t *testing.T) {
	for name, run := range map[string]func(*fleet) error{
		"its slot": func(f *fleet) error {
			_, err := f.runner.rec.run(context.Background(), ten, ten.From)
			return err
		},
		"its look at older hours": func(f *fleet) error {
			_, err := f.runner.rec.Run(context.Background(), ten)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := lostOne(t, "r", "b", "s")
			defer f.close()
			f.reconciles(f.nodes["s"])
			f.look()
			f.pass(2 * time.Minute)
			f.arrive("r", "b", "s")
			var other *Report
			f.broker.asked = func() {
				f.pass(lease + time.Minute)
				f.arrive("r", "b") // all that r had written by then
				var err error
				other, err = f.nodes["s"].rec.run(context.Background(), ten, ten.From)
				f.must(err)
				f.broker.forget() // r would find the order missing, too
			}
			if err := run(f); !errors.Is(err, ledger.ErrFenced) {
				t.Fatalf("got %v, want ErrFenced", err)
			}
			if got := f.wrote("r"); len(got) != 0 {
				t.Fatalf("it wrote %v", got)
			}
			if _, err := ReadReport(f.disk, "reports/r", "2027-02-05T22"); !errors.Is(err, ErrNoReport) {
				t.Fatalf("it left a report: %v", err)
			}
			slots, err := f.ledger.LastSlot(context.Background())
			f.must(err)
			if !slots.Started.Equal(ten.From) || slots.Holder != "" {
				t.Fatalf("the schedule stands at %+v", slots)
			}
			// Its run had begun and might have reissued: s waits for its log once.
			if other.GateOpen || other.Reissued != 0 || !strings.Contains(other.Gate, "of node r ended at 23:43:00Z") {
				t.Fatalf("s reissued %d, gate %q", other.Reissued, other.Gate)
			}
			f.settle()
			if again, err := f.nodes["s"].rec.run(context.Background(), ten, ten.From); err != nil || again.Reissued != 1 || !again.Done {
				t.Fatalf("then s gives %+v, %v", again, err)
			}
			f.broker.wantSent(1)
		})
	}
}

// Of several schedulers one runs the slot and looks again at what is older; where
// it is gone, another does both.
func TestOneSchedulerOfMany(t *testing.T) {
	f := lostOne(t, "r", "b", "s")
	defer f.close()
	f.reconciles(f.nodes["s"])
	f.look()
	f.pass(7 * time.Minute)
	f.arrive("r", "b", "s")
	ctx := context.Background()
	r, s := f.scheduler("r"), f.scheduler("s")
	nodes := func() (list []string) {
		t.Helper()
		runs, _, err := f.ledger.Runs(ctx, ledger.Cursor{}, ledger.MaxPage)
		f.must(err)
		for _, run := range slices.Backward(runs) {
			what := "again"
			if !run.Slot.IsZero() {
				what = run.Slot.Format("15")
			}
			if run.State != ledger.RunFinished {
				what += "!"
			}
			list = append(list, run.Node+" "+what)
		}
		return list
	}
	f.must(r.slots(ctx))
	f.must(s.slots(ctx))
	if got, want := nodes(), []string{"r 22", "r again"}; !slices.Equal(got, want) {
		t.Fatalf("ran %v, want %v", got, want)
	}
	f.broker.wantSent(1)
	f.pass(30 * time.Minute)
	f.look()
	f.pass(5 * time.Minute)
	f.arrive("r", "b", "s")
	f.must(s.slots(ctx))
	f.must(r.slots(ctx))
	if got, want := nodes(), []string{"r 22", "r again", "s 23", "s again"}; !slices.Equal(got, want) {
		t.Fatalf("ran %v, want %v", got, want)
	}
	f.broker.wantSent(1)
}

// TestTheClockOfACluster runs a scheduler beside the archivers of two nodes on a fake
// clock: lanes are looked at all the while, so that the first tick after the hour
// brings back what was lost in it.
func TestTheClockOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(ten.From))
		f := newFleetAt(t, time.Time{}, "a", "b", "c")
		defer f.close()
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 3)
		for _, name := range []string{"b", "c"} {
			archiver, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: f.nodes[name].log, Bucket: f.bucket})
			f.must(err)
			go func() { ended <- archiver.Run(ctx) }()
		}
		scheduler := f.scheduler("a")
		go func() { ended <- scheduler.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		f.claim("b", "lost")
		matched := f.claim("b", "matched")
		f.feed("b")
		time.Sleep(time.Minute)
		f.event("c", matched, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
		f.broker.forget()
		time.Sleep(35*time.Minute + 59*time.Second)
		f.broker.wantSent(0)
		time.Sleep(time.Second + 30*time.Second) // 23:07:30
		f.broker.wantSent(1)
		report, err := ReadReport(f.disk, "reports/a", "2027-02-05T22")
		f.must(err)
		if want := (Counts{Matched: 1, Missing: 1}); report.Classes != want || !report.Done || !report.Complete {
			t.Errorf("got %+v, incomplete %q, gate %q; want %+v", report.Classes, report.Incomplete, report.Gate, want)
		}
		time.Sleep(time.Hour)
		f.broker.wantSent(1)
		stop()
		for range 3 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}
