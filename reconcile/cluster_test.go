package reconcile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func TestEachClassOverTheLogsOfACluster(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	want := map[gift.OrderID]Class{}
	is := func(class Class, c *fallbacklog.Record) { want[c.Claim.Orders[0].ID] = class }
	grant := fallbacklog.Event{Reference: "R"}
	began := f.at
	for _, claimed := range []string{"a", "b"} {
		user := func(name string) string { return name + "-at-" + claimed }
		c := f.claim(claimed, user("matched"))
		f.event("b", c, fallbacklog.Granted, grant)
		is(Matched, c)
		c = f.claim(claimed, user("told-twice"))
		f.event("b", c, fallbacklog.Granted, grant)
		f.event("c", c, fallbacklog.Granted, grant)
		is(Matched, c)
		c = f.claim(claimed, user("duplicate"))
		f.event("b", c, fallbacklog.Granted, grant)
		f.event("c", c, fallbacklog.Granted, fallbacklog.Event{Reference: "another"})
		is(Duplicate, c)
		c = f.claim(claimed, user("mismatched"))
		f.event("c", c, fallbacklog.Granted, fallbacklog.Event{Reference: "R", Amount: 991})
		is(Mismatched, c)
		c = f.claim(claimed, user("refused"))
		f.event("b", c, fallbacklog.Deferred, fallbacklog.Event{Due: f.at})
		f.pass(time.Second)
		f.event("c", c, fallbacklog.Refused, fallbacklog.Event{Code: "no"})
		is(Refused, c)
		c = f.claim(claimed, user("granted-then-refused"))
		f.event("b", c, fallbacklog.Granted, grant)
		f.pass(time.Second)
		f.event("c", c, fallbacklog.Refused, fallbacklog.Event{Code: "no"})
		is(Matched, c)
		c = f.claim(claimed, user("parked"))
		f.event("c", c, fallbacklog.Parked, fallbacklog.Event{Code: "exhausted"})
		is(Parked, c)
		c = f.claim(claimed, user("parked-then-granted"))
		f.event("c", c, fallbacklog.Parked, fallbacklog.Event{Code: "exhausted"})
		f.pass(time.Second)
		f.event("b", c, fallbacklog.Granted, grant)
		is(Matched, c)
		is(Missing, f.claim(claimed, user("never-tried")))
		c = f.claim(claimed, user("overdue"))
		f.event("b", c, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: f.at.Add(time.Minute)})
		is(Missing, c)
		c = f.claim(claimed, user("doubt"))
		f.event("b", c, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: f.at})
		f.pass(time.Second)
		f.event("c", c, fallbacklog.Unknown, fallbacklog.Event{Attempts: 2, Began: f.at, Due: f.at})
		is(InDoubt, c)
		c = f.claim(claimed, user("open-attempt"))
		f.event("c", c, fallbacklog.Attempted, fallbacklog.Event{Attempts: 1, Began: f.at})
		is(InDoubt, c)
		// The attempt that b left open was settled by c, well after.
		c = f.claim(claimed, user("settled"))
		f.event("b", c, fallbacklog.Attempted, fallbacklog.Event{Attempts: 1, Began: f.at})
		f.pass(2 * time.Minute)
		f.event("c", c, fallbacklog.Deferred, fallbacklog.Event{Attempts: 2, Due: f.at})
		is(Missing, c)
	}
	// Both nodes took this claim in, b a slot later.
	twice := newClaim("twice", began)
	again := newClaim("twice", began.Add(time.Hour))
	f.append("a", twice)
	f.append("b", again)
	f.event("c", twice, fallbacklog.Granted, grant)
	is(Matched, twice)
	is(Unexpected, newClaim("stranger", f.at))
	f.event("c", newClaim("stranger", f.at), fallbacklog.Granted, grant)
	f.feed("a")
	f.feed("b")
	f.broker.forget()

	later := f.claim("b", "later") // deferred until long after
	f.feed("b")
	f.broker.waiting[0].claimed, f.broker.waiting[0].due = time.Time{}, f.at.Add(time.Hour)
	f.event("c", later, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: f.at.Add(time.Hour)})
	is(InFlight, later)
	f.pass(3 * time.Minute)
	is(InFlight, f.claim("a", "unfed"))
	is(InFlight, f.claim("b", "unfed there"))
	f.settle()

	q := Slot(eight.Add(2 * time.Hour))
	q.DryRun = true
	report := f.run(q)
	var counts Counts
	for _, class := range want {
		*counts.of(class)++
	}
	if report.Classes != counts {
		t.Errorf("classes\n got %+v\nwant %+v", report.Classes, counts)
	}
	for _, d := range report.Discrepancies {
		if want[d.OrderID] != d.Class {
			t.Errorf("order %v is %v, want %v", d.OrderID, d.Class, want[d.OrderID])
		}
	}
	next := Slot(began.Add(time.Hour))
	next.DryRun = true
	if r := f.run(next); r.Expected != 0 {
		t.Errorf("the next slot expects %d orders, and the claim that came twice is of this one", r.Expected)
	}
	f.broker.wantSent(0)

	// What is missing and in doubt goes back, by records of this node's log alone.
	q.DryRun = false
	report = f.run(q)
	if !report.Complete || report.Reissued != counts.Open() {
		t.Fatalf("reissued %d, incomplete %q, gate %q; want %d", report.Reissued, report.Incomplete, report.Gate, counts.Open())
	}
	f.broker.wantSent(int(counts.Open()))
	for _, p := range f.broker.deferred {
		m := p.msg
		if own := strings.HasSuffix(m.Claim.User, "-at-a"); m.Order.ID != m.Claim.Orders[0].ID || own != (m.Origin != 0) {
			t.Errorf("a message of %s's order has origin %v", m.Claim.User, m.Origin)
		}
		if in := want[m.Order.ID] == InDoubt; m.InDoubt != in || in && m.Began.IsZero() {
			t.Errorf("a message of %s's order is in doubt: %v, begun %v", m.Claim.User, m.InDoubt, m.Began)
		}
	}
	for _, rec := range readAll(t, f.nodes["a"].log, fallbacklog.Reissued) {
		c := rec.Event.Claim
		if own := slices.ContainsFunc(readAll(t, f.nodes["a"].log, fallbacklog.Claimed), func(r *fallbacklog.Record) bool { return r.Claim.ID == c }); own != (rec.Event.Origin != 0) {
			t.Errorf("a reissue of an order claimed here: %v has origin %v", own, rec.Event.Origin)
		}
	}
	if r := f.run(q); r.Reissued != 0 || r.Classes.Open() != 0 {
		t.Fatalf("the second run reissued %d and found %+v", r.Reissued, r.Classes)
	}
}

// ten is the hour in which a fleet begins.
var ten = Slot(eight.Add(2 * time.Hour))

func wantIncomplete(t *testing.T, r *Report, want ...string) {
	t.Helper()
	all := strings.Join(r.Incomplete, "\n")
	if r.Complete != (len(want) == 0) || len(r.Incomplete) != len(want) {
		t.Errorf("complete: %v, incomplete:\n%s\nwant %d lines", r.Complete, all, len(want))
	}
	for _, part := range want {
		if !strings.Contains(all, part) {
			t.Errorf("%q is not in\n%s", part, all)
		}
	}
}

// The claim is in one front's log and the outcome in a consumer's. Until that has
// arrived, the order is on its way and the report says whose log it waits for.
func TestAnOutcomeInAnotherLogThanItsClaim(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	var claims []*fallbacklog.Record
	for _, front := range []string{"a", "b"} {
		claims = append(claims, f.claim(front, "at-"+front))
		f.feed(front)
	}
	lost := f.claim("b", "lost")
	f.feed("b")
	f.pass(time.Second)
	f.broker.forget()
	for _, c := range claims {
		f.event("c", c, fallbacklog.Granted, fallbacklog.Event{Reference: "R-" + c.Claim.User})
	}
	f.arrive("b", "c")
	f.pass(5 * time.Minute)
	f.look()
	f.pass(time.Hour)
	// What c archived, at ten, has the grants, and nobody can know that.
	f.arrive("b")
	report := f.run(ten)
	wantIncomplete(t, report, "node c: its log has arrived up to 22:00:01Z, not to 23:00:00Z, and it was last heard of at 22:00:01Z: see that it runs")
	if want := (Counts{Matched: 2, InFlight: 1}); report.Classes != want || report.GateOpen || report.Done {
		t.Fatalf("got %+v, gate %q, done %v; want %+v behind a closed gate", report.Classes, report.Gate, report.Done, want)
	}
	f.broker.wantSent(0)

	f.arrive("c")
	report = f.run(ten)
	wantIncomplete(t, report)
	if want := (Counts{Matched: 2, Missing: 1}); report.Classes != want || report.Reissued != 1 || !report.Done {
		t.Fatalf("got %+v, reissued %d, gate %q; want %+v and 1", report.Classes, report.Reissued, report.Gate, want)
	}
	f.broker.wantSent(1)
	if f.broker.sent[0] != lost.Claim.Orders[0].ID {
		t.Fatalf("order %v was sent again", f.broker.sent[0])
	}
	for range 2 {
		if report = f.run(ten); report.Reissued != 0 || report.InFlight != 1 {
			t.Fatalf("run again, it reissued %d and found %+v", report.Reissued, report.Classes)
		}
		f.pass(10 * time.Minute)
		f.look()
		f.pass(10 * time.Minute)
		f.arrive("b", "c")
	}
	f.broker.wantSent(1)
}

// A log that has arrived, but not through the end of the slot, may hold the outcome
// of any order: not one is reissued, whosever it is.
func TestALogThatIsLateHoldsEverythingBack(t *testing.T) {
	f := newFleet(t, "a", "b")
	defer f.close()
	f.claim("a", "lost")
	f.feed("a")
	f.pass(59 * time.Minute)
	f.broker.forget()
	f.look()
	f.pass(2 * time.Minute)
	f.arrive("b")
	f.pass(6 * time.Minute)
	// An hour that b's log has in full.
	early := Request{From: ten.From, To: ten.From.Add(30 * time.Minute), DryRun: true}
	if report := f.run(early); !report.Complete || report.Classes.Missing != 1 {
		t.Fatalf("of the half hour that is there: %+v, incomplete %q", report.Classes, report.Incomplete)
	}
	late := Request{From: ten.From, To: ten.To.Add(5 * time.Minute)}
	report := f.run(late)
	wantIncomplete(t, report, "node b: its log has arrived up to 23:01:00Z, not to 23:05:00Z")
	if report.Classes.Missing != 1 || report.Reissued != 0 || report.GateOpen || !strings.HasPrefix(report.Gate, "closed: the logs of 1 nodes are not there") {
		t.Fatalf("got %+v, gate %q", report.Classes, report.Gate)
	}
	f.broker.wantSent(0)
	f.arrive("b")
	if report = f.run(late); report.Reissued != 1 || !report.Complete {
		t.Fatalf("reissued %d, gate %q, incomplete %q", report.Reissued, report.Gate, report.Incomplete)
	}
}

// What the lanes said is of use only once all logs have arrived at it: a node whose
// outcome has not arrived may have let the order go since.
func TestWatermarksWaitForTheLogs(t *testing.T) {
	f := newFleet(t, "a", "b")
	defer f.close()
	c := f.claim("a", "ana")
	f.feed("a")
	f.pass(59 * time.Minute)
	f.look()
	f.pass(4 * time.Minute)
	f.arrive("b") // at 23:03, which is behind the slot's end
	f.pass(time.Minute)
	f.broker.forget()
	f.event("b", c, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	f.pass(3 * time.Minute)
	report := f.run(ten)
	if want := (Counts{InFlight: 1}); report.Classes != want || report.Reissued != 0 || !report.Complete {
		t.Fatalf("got %+v, reissued %d, incomplete %q; want %+v", report.Classes, report.Reissued, report.Incomplete, want)
	}
	if want := ten.To.Add(-time.Minute); !report.AsOf.Equal(want) {
		t.Fatalf("judged as of %v, want %v", report.AsOf, want)
	}
	f.arrive("b")
	if report, want := f.run(ten), (Counts{Matched: 1}); report.Classes != want {
		t.Fatalf("got %+v, want %+v", report.Classes, want)
	}
	// Whoever has just been started has seen nothing that the logs bear out.
	f.claim("a", "ben")
	f.feed("a")
	f.pass(time.Second)
	f.arrive("b")
	f.pass(30 * time.Second)
	f.runner.rec.Close()
	f.reconciles(f.runner)
	f.broker.forget()
	if report := f.run(Request{}); report.Classes.InFlight != 1 || report.GateOpen || report.Done || !strings.HasPrefix(report.Gate, "closed: the lanes were looked at from 23:07:31Z on") {
		t.Fatalf("got %+v, gate %q, done %v", report.Classes, report.Gate, report.Done)
	}
	f.broker.wantSent(0)
}

// One node alone has a cluster's ledger and archive, and no other log to wait for.
func TestAClusterOfOne(t *testing.T) {
	f := newFleet(t, "a")
	defer f.close()
	f.claim("a", "lost")
	f.feed("a")
	f.broker.forget()
	f.pass(10 * time.Minute)
	f.claim("a", "unfed")
	f.pass(10 * time.Minute)
	report := f.run(Request{})
	if want := (Counts{Missing: 1, InFlight: 1}); report.Classes != want || report.Reissued != 1 || !report.Done || report.Nodes != nil || !report.AsOf.IsZero() {
		t.Fatalf("got %+v, reissued %d, nodes %+v, as of %v; want %+v", report.Classes, report.Reissued, report.Nodes, report.AsOf, want)
	}
}
