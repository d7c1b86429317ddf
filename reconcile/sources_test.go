package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/ledger"
)

// A run whose end is left open goes as far as all logs have arrived, and says for whose
// sake it ends. It is not complete where that one's node is silent.
func TestALateLogIsNamed(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	f.claim("a", "early")
	f.feed("a")
	f.settle()
	f.pass(2 * time.Minute)
	f.claim("a", "late")
	f.feed("a")
	f.pass(time.Second)
	f.arrive("a", "c")
	report := f.run(Request{DryRun: true})
	if len(report.Later) != 1 || !strings.HasPrefix(report.Later[0], "node b: its log has arrived up to") || report.Expected != 1 || !report.Complete {
		t.Errorf("later %q, %d expected, complete %v", report.Later, report.Expected, report.Complete)
	}
	var text strings.Builder
	f.must(report.WriteText(&text))
	if !strings.Contains(text.String(), "! node b: its log has arrived up to") {
		t.Errorf("the text does not say it:\n%s", &text)
	}
	f.pass(2 * time.Minute)
	f.arrive("a", "c")
	report = f.run(Request{DryRun: true})
	if report.Complete || len(report.Later) != 0 || len(report.Incomplete) != 1 || !strings.HasPrefix(report.Incomplete[0], "node b: silent since ") || report.Expected != 1 {
		t.Errorf("incomplete %q, later %q, %d expected, complete %v", report.Incomplete, report.Later, report.Expected, report.Complete)
	}
	f.arrive("b")
	if report := f.run(Request{DryRun: true}); !report.Complete || len(report.Later) != 0 || report.Expected != 2 {
		t.Errorf("later %q, %d expected once all logs have arrived", report.Later, report.Expected)
	}
}

// A node that is up and silent, one that never archived, one that nobody
// registered: each is named, with what helps.
func TestASilentNodeIsNamed(t *testing.T) {
	f := newFleet(t, "a", "b", "c", "stranger")
	defer f.close()
	f.claim("a", "lost")
	f.feed("a")
	f.broker.forget()
	delete(f.registry.nodes, "stranger")
	f.arrive("b", "stranger")
	f.pass(30 * time.Minute)
	f.look()
	f.pass(37 * time.Minute)
	f.arrive("b")
	report := f.run(ten)
	wantIncomplete(t, report,
		"node c: it has no log in the archive: see that it runs and reaches the archive, or retire it",
		"node stranger: its log has arrived up to 22:00:00Z, not to 23:00:00Z, and it was last heard of at 22:00:00Z: no node of this name is registered")
	if report.Classes.InFlight != 1 || report.Reissued != 0 || report.Done {
		t.Fatalf("got %+v, reissued %d, done %v", report.Classes, report.Reissued, report.Done)
	}
	states := map[string]ArrivalState{"a": Here, "b": Arrived, "c": Absent, "stranger": Arrived}
	for _, n := range report.Nodes {
		if states[n.Node] != n.State {
			t.Errorf("node %s is %s, want %s", n.Node, n.State, states[n.Node])
		}
	}
	f.registry.set(ledger.Node{Name: "c", State: ledger.NodeRetired})
	f.registry.set(ledger.Node{Name: "stranger", State: ledger.NodeRetired})
	report = f.run(ten)
	wantIncomplete(t, report)
	if report.Reissued != 1 || len(report.Nodes) != 3 {
		t.Fatalf("reissued %d, gate %q, nodes %+v", report.Reissued, report.Gate, report.Nodes)
	}
}

// A node that has left in order: its log counts as it is, and what it had not fed
// waits, named, for it to come back or to be retired.
func TestANodeThatLeft(t *testing.T) {
	f := newFleet(t, "a", "b")
	defer f.close()
	ana := f.claim("b", "ana")
	f.feed("b")
	f.pass(time.Second)
	f.broker.forget()
	f.event("b", ana, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.pass(5 * time.Minute)
	f.arrive("b")
	ben := f.claim("b", "ben") // never fed
	f.registry.set(ledger.Node{Name: "b", State: ledger.NodeLeft, LogEnd: f.nodes["b"].log.End(), Seen: f.at})
	f.pass(90 * time.Minute)
	// It left before its archiver was done.
	report := f.run(ten)
	wantIncomplete(t, report, "node b: its log has arrived up to 22:05:01Z, not to 23:00:00Z")
	f.pass(-90 * time.Minute)
	f.arrive("b")
	f.pass(90 * time.Minute)
	report = f.run(ten)
	wantIncomplete(t, report, "node b: it has left, and nobody gives 1 orders of its log to their lanes: start it again, or retire it")
	if want := (Counts{Matched: 1, InFlight: 1}); report.Classes != want || report.Nodes[1].State != Left {
		t.Fatalf("got %+v, nodes %+v; want %+v", report.Classes, report.Nodes, want)
	}
	// It runs again, and could not tell the registry.
	f.arrive("b")
	f.pass(time.Hour)
	wantIncomplete(t, f.run(Slot(ten.To)), "node b: its log has arrived up to 2027-02-05T23:35:01Z, not to 2027-02-06T00:00:00Z")
	f.broker.wantSent(0)

	f.registry.set(ledger.Node{Name: "b", State: ledger.NodeRetired})
	report = f.run(ten)
	wantIncomplete(t, report)
	if want := (Counts{Matched: 1, Missing: 1}); report.Classes != want || report.Reissued != 1 || report.Nodes[1].State != Retired {
		t.Fatalf("got %+v, reissued %d, nodes %+v; want %+v", report.Classes, report.Reissued, report.Nodes, want)
	}
	if f.broker.wantSent(1); f.broker.sent[0] != ben.Claim.Orders[0].ID {
		t.Fatalf("order %v was sent again", f.broker.sent[0])
	}
}

// What another node's log has lost makes the reports of its time incomplete, and
// leaves orders in doubt whose claims are elsewhere: its own start could not know
// of them.
func TestWhatAnotherLogHasLost(t *testing.T) {
	for name, archived := range map[string]bool{"for good": false, "and the archive has": true} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "a", "b", "c")
			defer f.close()
			ana, ben, eve := f.claim("b", "ana"), f.claim("a", "ben"), f.claim("b", "eve")
			f.feed("a")
			f.feed("b")
			f.pass(time.Minute)
			f.broker.forget()
			f.event("c", ana, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
			lost := readAll(t, f.nodes["c"].log)[0].At
			if archived {
				f.arrive("c")
			}
			f.pass(time.Minute)
			f.damage(f.nodes["c"], lost)
			f.pass(5 * time.Minute)
			// The partner says that eve's order was never applied.
			f.event("c", eve, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: f.at.Add(time.Second)})
			f.pass(5 * time.Minute)
			late := f.claim("b", "late")
			f.feed("b")
			f.broker.forget()
			f.settle()
			f.pass(time.Hour)
			f.settle()

			early := f.run(Request{From: ten.From.Add(-time.Hour), To: ten.From})
			wantIncomplete(t, early)
			report := f.run(ten)
			if archived {
				wantIncomplete(t, report)
				if want := (Counts{Matched: 1, Missing: 3}); report.Classes != want {
					t.Fatalf("got %+v, want %+v", report.Classes, want)
				}
				return
			}
			wantIncomplete(t, report, "node c: segment 1 of the log has lost ")
			if want := (Counts{Unknown: 2, Missing: 2}); report.Classes != want || report.Reissued != 4 {
				t.Fatalf("got %+v, reissued %d, gate %q; want %+v", report.Classes, report.Reissued, report.Gate, want)
			}
			for _, p := range f.broker.deferred {
				user := p.msg.Claim.User
				doubt := user == ana.Claim.User || user == ben.Claim.User
				if p.msg.InDoubt != doubt || doubt && !p.msg.Began.Equal(f.at) {
					t.Errorf("%s's order is in doubt: %v, begun %v", user, p.msg.InDoubt, p.msg.Began)
				}
				if user == late.Claim.User && p.msg.InDoubt {
					t.Error("an order is in doubt that was claimed after the loss")
				}
			}
			for _, rec := range readAll(t, f.nodes["a"].log, fallbacklog.Unknown) {
				if rec.Event.Code != fallbacklog.CodeLost {
					t.Errorf("a doubt has the code %q", rec.Event.Code)
				}
			}
			// Lost once more, they are in doubt still.
			f.broker.forget()
			f.settle()
			if report := f.run(ten); report.Classes.Unknown != 2 || report.Classes.Missing != 2 {
				t.Errorf("then got %+v", report.Classes)
			}
		})
	}
}

// Who cannot say which nodes there are compares nothing.
func TestNobodyKnowsWhichNodesThereAre(t *testing.T) {
	f := newFleet(t, "a", "b")
	defer f.close()
	f.registry.err = errors.New("database is down")
	if _, err := f.runner.rec.Run(context.Background(), Request{}); err == nil || !strings.Contains(err.Error(), "the other nodes' logs: database is down") {
		t.Fatalf("got %v", err)
	}
	if got := f.wrote("a"); len(got) != 0 {
		t.Fatalf("it wrote %v", got)
	}
}

// A grant whose claim is in a log that has not arrived is no alarm yet.
func TestAGrantWhoseClaimHasNotArrived(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	f.arrive("b")
	f.pass(5 * time.Minute)
	ana := f.claim("b", "ana")
	f.event("c", ana, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.event("c", newClaim("stranger", f.at), fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.pass(time.Hour)
	f.look()
	f.pass(5 * time.Minute)
	f.arrive("c")
	if report := f.run(ten); report.Complete || report.Classes != (Counts{}) {
		t.Fatalf("without the claims: %+v, incomplete %q", report.Classes, report.Incomplete)
	}
	f.arrive("b")
	if report, want := f.run(ten), (Counts{Matched: 1, Unexpected: 1}); !report.Complete || report.Classes != want {
		t.Fatalf("got %+v, incomplete %q; want %+v", report.Classes, report.Incomplete, want)
	}
}

// A slot of which a log is missing is not done, even where what is there adds up,
// and is looked at until it is.
func TestASlotWithoutALogIsNotDone(t *testing.T) {
	f := newFleet(t, "a", "b")
	defer f.close()
	ana := f.claim("a", "ana")
	f.feed("a")
	f.pass(time.Minute)
	f.event("a", ana, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.broker.forget()
	f.pass(10 * time.Minute)
	f.look()
	f.pass(10 * time.Minute)
	f.arrive("b")
	f.pass(46 * time.Minute) // 23:07
	s := f.scheduler("a")
	f.must(s.slots(t.Context()))
	slots, err := f.ledger.LastSlot(t.Context())
	f.must(err)
	if !slots.Finished.IsZero() || !s.looked.IsZero() {
		t.Fatalf("the schedule stands at %+v, looked up to %v", slots, s.looked)
	}
	f.look()
	f.pass(time.Hour)
	f.arrive("b")
	f.must(s.slots(t.Context()))
	if slots, err = f.ledger.LastSlot(t.Context()); err != nil || !slots.Finished.Equal(ten.To) || !s.looked.Equal(ten.To) {
		t.Fatalf("the schedule stands at %+v, %v, looked up to %v", slots, err, s.looked)
	}
}
