package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/queue"
)

func TestEachClass(t *testing.T) {
	w := newWorld(t, nil)
	at := eight.Add(10 * time.Minute)
	event := func(c *fallbacklog.Record, kind fallbacklog.Kind, e fallbacklog.Event) {
		w.append(about(c, kind, at.Add(time.Second), e))
	}
	want := map[gift.OrderID]Class{}
	is := func(c *fallbacklog.Record, class Class) { want[c.Claim.Orders[0].ID] = class }

	is(w.granted("matched", at), Matched)
	c := w.granted("told-twice", at)
	event(c, fallbacklog.Granted, fallbacklog.Event{Reference: "R-told-twice"})
	event(c, fallbacklog.Granted, fallbacklog.Event{})
	is(c, Matched)
	c = w.granted("duplicate", at)
	event(c, fallbacklog.Granted, fallbacklog.Event{Reference: "another"})
	is(c, Duplicate)
	c = w.claim("mismatched", at)
	event(c, fallbacklog.Granted, fallbacklog.Event{Reference: "R", Amount: 991})
	is(c, Mismatched)
	c = w.claim("refused", at)
	event(c, fallbacklog.Refused, fallbacklog.Event{Code: "no"})
	is(c, Refused)
	c = w.claim("refused-after-grant", at)
	event(c, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	event(c, fallbacklog.Refused, fallbacklog.Event{Code: "no"})
	is(c, Matched)
	c = w.claim("parked", at)
	event(c, fallbacklog.Parked, fallbacklog.Event{Code: "exhausted"})
	is(c, Parked)
	c = w.claim("parked-then-granted", at)
	event(c, fallbacklog.Parked, fallbacklog.Event{Code: "exhausted"})
	event(c, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	is(c, Matched)
	is(w.claim("never-tried", at), Missing)
	overdue := w.claim("overdue", at)
	is(overdue, Missing)
	doubt := w.claim("doubt", at)
	is(doubt, InDoubt)
	open := w.claim("open-attempt", at)
	event(open, fallbacklog.Attempted, fallbacklog.Event{Attempts: 1, Began: at})
	is(open, InDoubt)
	stranger := newClaim("stranger", at)
	event(stranger, fallbacklog.Granted, fallbacklog.Event{Reference: "R"})
	is(stranger, Unexpected)

	// The lane has these still: one deferred until later, one waiting.
	later := newClaim("later", at)
	w.append(later)
	m := w.take()
	due := w.now().Add(time.Hour)
	event(later, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: due})
	w.must(w.lanes["midas"].Defer(context.Background(), m, due))
	is(later, InFlight)
	waiting := newClaim("waiting", at.Add(20*time.Minute))
	w.append(waiting)
	is(waiting, InFlight)

	// Deferred and unknown orders come back into the embedded lane by their
	// records alone: this one loses what is overdue.
	event(overdue, fallbacklog.Deferred, fallbacklog.Event{Attempts: 1, Due: at.Add(time.Minute)})
	event(doubt, fallbacklog.Unknown, fallbacklog.Event{Attempts: 1, Began: at, Due: at.Add(time.Minute)})
	w.asked["midas"] = lostDues{w.lanes["midas"]}

	q := Slot(eight)
	q.DryRun = true
	report := w.run(q)
	var counts Counts
	for _, class := range want {
		*counts.of(class)++
	}
	if report.Classes != counts {
		t.Errorf("classes\n got %+v\nwant %+v", report.Classes, counts)
	}
	listed := map[gift.OrderID]Class{}
	for _, d := range report.Discrepancies {
		listed[d.OrderID] = d.Class
	}
	for id, class := range want {
		if got, found := listed[id]; class.Discrepancy() && got != class || !class.Discrepancy() && found {
			t.Errorf("order %v is listed as %v, want %v", id, got, class)
		}
	}
	if report.Expected != 14 || report.Actual != 6 || report.InFlight != 2 || report.Reissued != 0 {
		t.Errorf("expected %d, actual %d, in flight %d, reissued %d; want 14, 6, 2, 0", report.Expected, report.Actual, report.InFlight, report.Reissued)
	}
	if d := report.Discrepancies[2]; d.Class != Mismatched || d.Amount != 990 || d.Granted == nil || *d.Granted != 991 || d.Partner != "midas" || d.AgeS != int64((2*time.Hour-10*time.Minute)/time.Second) {
		t.Errorf("the mismatched order reads %+v", d)
	}
	for _, alarm := range []string{"ALARM: grants that no claim explains", "ALARM: orders granted more than once"} {
		if !strings.Contains(w.said.String(), alarm) {
			t.Errorf("nobody was told %q", alarm)
		}
	}
	w.wantReissued(0)
}

// lostDues is a lane that has lost its overdue messages: only what is not due yet
// is there.
type lostDues struct{ queue.Lane }

func (l lostDues) Status(ctx context.Context) (queue.Status, error) {
	s, err := l.Lane.Status(ctx)
	s.OldestDue = time.Time{}
	return s, err
}

func TestAClaimWithoutAnAmountIsGrantedWithAny(t *testing.T) {
	w := newWorld(t, nil)
	c := newClaim("free", eight)
	c.Claim.Orders[0].Amount = 0
	w.append(c)
	w.lose()
	w.append(about(c, fallbacklog.Granted, eight, fallbacklog.Event{Amount: 5}))
	if got, want := w.run(Slot(eight)).Classes, (Counts{Matched: 1}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestSlotBorders(t *testing.T) {
	w := newWorld(t, nil)
	for user, at := range map[string]time.Time{
		"before": eight.Add(-time.Millisecond), "first": eight, "last": eight.Add(time.Hour - time.Millisecond), "after": eight.Add(time.Hour),
	} {
		w.granted(user, at)
	}
	// Grants without a claim belong to the slot of the grant.
	w.append(about(newClaim("x", eight), fallbacklog.Granted, eight.Add(time.Hour), fallbacklog.Event{Reference: "R"}))
	w.append(about(newClaim("y", eight), fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
	for slot, want := range map[time.Time]Counts{
		eight.Add(-time.Hour): {Matched: 1}, eight: {Matched: 2, Unexpected: 1}, eight.Add(time.Hour): {Matched: 1, Unexpected: 1},
	} {
		if got := w.run(Slot(slot)).Classes; got != want {
			t.Errorf("slot %v: got %+v, want %+v", slot, got, want)
		}
	}
	if got, want := w.run(Request{}).Classes, (Counts{Matched: 4, Unexpected: 2}); got != want {
		t.Errorf("whole log: got %+v, want %+v", got, want)
	}
	// A zone with summer time changes nothing: slots are UTC.
	zone := time.FixedZone("+05:30", 5*3600+1800)
	if got, want := Slot(eight.Add(10*time.Minute).In(zone)), Slot(eight); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAClaimAppendedTwiceIsOneOrderOfItsFirstSlot(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("u", eight)
	w.append(newClaim("u", eight.Add(time.Hour)))
	if got, want := w.run(Slot(eight)).Classes, (Counts{Matched: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := w.run(Slot(eight.Add(time.Hour))).Expected; got != 0 {
		t.Errorf("the second slot expects %d orders, want 0", got)
	}
}

func TestOneCampaignOnly(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("u", eight)
	other := newClaim("v", eight)
	other.Claim.Campaign = "autumn"
	w.append(other)
	w.lose()
	report := w.run(Request{Campaign: "autumn", DryRun: true})
	if got, want := report.Classes, (Counts{Missing: 1}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if report.Run != "all@autumn.dry-run" {
		t.Fatalf("run is called %q", report.Run)
	}
	if got := w.run(Request{Campaign: "winter"}).Expected; got != 0 {
		t.Fatalf("a campaign that nobody knows expects %d orders", got)
	}
}

func TestTheListIsCutAndTheFileIsNot(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Workers = 3 })
	const refused = 2500
	var recs []*fallbacklog.Record
	for _, user := range users(refused) {
		recs = append(recs, newClaim(user, eight))
	}
	for chunk := range slices.Chunk(recs, 250) {
		w.append(chunk...)
	}
	var outcomes []*fallbacklog.Record
	for _, c := range recs {
		outcomes = append(outcomes, about(c, fallbacklog.Refused, eight, fallbacklog.Event{Code: "no", Reason: strings.Repeat("x", 100)}))
	}
	for chunk := range slices.Chunk(outcomes, 250) {
		w.append(chunk...)
	}
	w.append(about(newClaim("stranger", eight), fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
	report := w.run(Slot(eight))
	if indexes := w.log.Indexes(); len(indexes) < 5 {
		t.Fatalf("the test wants several segments, there are %d", len(indexes))
	}
	if report.Found != refused+1 || len(report.Discrepancies) != MaxListed {
		t.Fatalf("found %d, listed %d; want %d, %d", report.Found, len(report.Discrepancies), refused+1, MaxListed)
	}
	if report.Discrepancies[0].Class != Unexpected {
		t.Fatalf("the list begins with %v, want what needs a look first", report.Discrepancies[0].Class)
	}
	b, err := os.ReadFile(filepath.Join(w.opts.Dir, "2027-02-05T20.ndjson"))
	w.must(err)
	lines, last := 0, gift.OrderID{}
	for in := bufio.NewScanner(bytes.NewReader(b)); in.Scan(); lines++ {
		var d Discrepancy
		w.must(json.Unmarshal(in.Bytes(), &d))
		if bytes.Compare(d.OrderID[:], last[:]) <= 0 {
			t.Fatalf("order %v comes after %v", d.OrderID, last)
		}
		last = d.OrderID
	}
	if lines != refused+1 {
		t.Fatalf("the file has %d lines, want %d", lines, refused+1)
	}
	// The same log gives the same report, however the work was split.
	again := w.run(Slot(eight))
	if got, want := fmt.Sprint(again.Discrepancies), fmt.Sprint(report.Discrepancies); got != want {
		t.Fatal("a second look lists other discrepancies")
	}
}

func TestMissingOrdersGoBackAndTheSecondRunDoesNothing(t *testing.T) {
	w := newWorld(t, nil)
	const n = 600 // more than two batches
	for _, user := range users(n) {
		w.claim(user, eight)
	}
	first := w.run(Slot(eight))
	if first.Reissued != n || first.Classes.Missing != n || !first.Done {
		t.Fatalf("reissued %d of %d missing, done %v; want %d, done", first.Reissued, first.Classes.Missing, first.Done, n)
	}
	w.wantReissued(n)
	for again := range 3 {
		w.set(w.now().Add(time.Hour)) // long after Slack
		report := w.run(Slot(eight))
		if report.Reissued != 0 || report.InFlight != n {
			t.Fatalf("run %d reissued %d, in flight %d; want 0, %d", again+2, report.Reissued, report.InFlight, n)
		}
	}
	w.wantReissued(n)
	got := map[gift.OrderID]int{}
	for range n {
		m := w.take()
		got[m.Order.ID]++
		w.append(about(&fallbacklog.Record{Claim: m.Claim, At: m.Origin}, fallbacklog.Granted, w.now(), fallbacklog.Event{Reference: "R"}))
		w.must(w.lanes["midas"].Ack(context.Background(), m))
	}
	if len(got) != n {
		t.Fatalf("the lane had %d of %d orders", len(got), n)
	}
	if got, want := w.run(Slot(eight)).Classes, (Counts{Matched: n}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for _, rec := range readAll(t, w.log, fallbacklog.Reissued) {
		if rec.Event.Run != "2027-02-05T20" || rec.Event.Origin == 0 || rec.Event.Partner != "midas" {
			t.Fatalf("a reissued record reads %+v", rec.Event)
		}
	}
}

func TestACrashBetweenRecordAndSend(t *testing.T) {
	t.Run("of a lane that reads the log", func(t *testing.T) {
		w := newWorld(t, nil)
		w.claim("u", eight)
		broken := *w.rec
		broken.opts.Queue = &sent{err: context.Canceled}
		if _, err := broken.Run(context.Background(), Slot(eight)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the queue's error", err)
		}
		w.wantReissued(1)
		w.set(w.now().Add(time.Hour))
		if report := w.run(Slot(eight)); report.Reissued != 0 || report.InFlight != 1 {
			t.Fatalf("reissued %d, in flight %d; want 0, 1: the lane has it from the log", report.Reissued, report.InFlight)
		}
		w.take()
	})
	t.Run("of a process", func(t *testing.T) {
		w := newWorld(t, nil)
		w.claim("u", eight)
		broken := *w.rec
		broken.opts.Queue = &sent{err: context.Canceled}
		if _, err := broken.Run(context.Background(), Slot(eight)); err == nil {
			t.Fatal("the run came to its end")
		}
		w.close()
		w.set(w.now().Add(time.Hour))
		w.open(nil)
		if report := w.run(Slot(eight)); report.Reissued != 0 || report.InFlight != 1 {
			t.Fatalf("reissued %d, in flight %d; want 0, 1", report.Reissued, report.InFlight)
		}
		w.take()
	})
	t.Run("of a lane that has to be sent", func(t *testing.T) {
		lane, out := &fixedLane{}, &sent{err: errors.New("broker is down")}
		w := newWorld(t, func(o *Options) { o.Queue = out })
		w.asked["midas"] = lane
		lane.status.AsOf = w.now()
		w.claim("u", eight)
		if _, err := w.rec.Run(context.Background(), Slot(eight)); err == nil {
			t.Fatal("the run came to its end")
		}
		// The message may be on its way for as long as Slack.
		out.err = nil
		lane.status.AsOf = w.now().Add(30 * time.Second)
		w.set(lane.status.AsOf)
		if report := w.run(Slot(eight)); report.Reissued != 0 || report.InFlight != 1 {
			t.Fatalf("reissued %d, in flight %d; want 0, 1", report.Reissued, report.InFlight)
		}
		lane.status.AsOf = w.now().Add(2 * time.Minute)
		w.set(lane.status.AsOf)
		if report := w.run(Slot(eight)); report.Reissued != 1 || len(out.msgs) != 1 {
			t.Fatalf("reissued %d, sent %d; want 1, 1", report.Reissued, len(out.msgs))
		}
		// Now the lane has it, due since a moment after the record.
		lane.status.OldestDue = w.now().Add(time.Second)
		lane.status.AsOf = w.now().Add(time.Hour)
		w.set(lane.status.AsOf)
		if report := w.run(Slot(eight)); report.Reissued != 0 || len(out.msgs) != 1 {
			t.Fatalf("reissued %d, sent %d; want 0, 1", report.Reissued, len(out.msgs))
		}
	})
}

func TestAReissueDoesNotHideAnOpenAttempt(t *testing.T) {
	w := newWorld(t, nil)
	c := w.claim("u", eight)
	began := eight.Add(time.Second)
	w.append(about(c, fallbacklog.Attempted, began, fallbacklog.Event{Attempts: 1, Began: began}))
	if report := w.run(Slot(eight)); report.Classes.Unknown != 1 || report.Reissued != 1 {
		t.Fatalf("unknown %d, reissued %d; want 1, 1", report.Classes.Unknown, report.Reissued)
	}
	// When the call began nobody knows, and the mark is no clock for it: not after
	// the run.
	began = w.now()
	m := w.take()
	if !m.InDoubt || m.Attempts != 1 || !m.Began.Equal(began) {
		t.Fatalf("the message says in doubt %v, attempts %d, began %v; want true, 1, %v", m.InDoubt, m.Attempts, m.Began, began)
	}
	s, err := w.log.Order(c.Claim.Orders[0].ID)
	w.must(err)
	if s.State != gift.StateUnknown || !s.Began.Equal(began) {
		t.Fatalf("the log says %v, began %v; want unknown, %v", s.State, s.Began, began)
	}
}

func TestWhatHappensWhileTheLanesAreAsked(t *testing.T) {
	w := newWorld(t, nil)
	delivered, claimed := w.claim("delivered", eight), newClaim("claimed", eight)
	doubted := w.claim("doubted", eight)
	// The lane lets one order go, comes to no end with another, and has not seen
	// a third, whose stamp is older than any watermark.
	w.asked["midas"] = laneFunc(func() {
		w.append(about(delivered, fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
		w.append(about(doubted, fallbacklog.Unknown, eight, fallbacklog.Event{Due: eight}))
		w.append(claimed)
	})
	report := w.run(Slot(eight))
	if got, want := report.Classes, (Counts{Matched: 1, InFlight: 2}); got != want || report.Reissued != 0 {
		t.Fatalf("got %+v, reissued %d; want %+v, 0", got, report.Reissued, want)
	}
}

func TestTheGate(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.BacklogUnder = 3 })
	w.claim("lost", eight)
	for _, user := range users(3) {
		w.append(newClaim(user, eight.Add(30*time.Minute)))
	}
	report := w.run(Slot(eight))
	if report.GateOpen || report.Reissued != 0 || report.Done || report.Classes.Missing != 1 || !strings.HasPrefix(report.Gate, "closed: 3 first deliveries") {
		t.Fatalf("a closed gate gives %+v", report)
	}
	w.wantReissued(0)
	w.take()
	if report = w.run(Slot(eight)); !report.GateOpen || report.Reissued != 1 || !report.Done {
		t.Fatalf("an open gate gives %+v", report)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	runs := newHistory(t)
	w := newWorld(t, func(o *Options) { o.Runs = runs })
	w.claim("lost", eight)
	report := w.run(Request{From: eight, To: eight.Add(time.Hour), DryRun: true})
	if report.Classes.Missing != 1 || report.Reissued != 0 || report.Done || report.Run != "2027-02-05T20.dry-run" {
		t.Fatalf("a dry run gives %+v", report)
	}
	w.wantReissued(0)
	if all := runs.all(t); len(all) != 0 {
		t.Fatalf("the history has %d runs, want none", len(all))
	}
	if _, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, report.Run); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, "2027-02-05T20"); !errors.Is(err, ErrNoReport) {
		t.Fatalf("got %v, want ErrNoReport", err)
	}
}

func TestALaneThatCannotBeAskedMakesTheReportIncomplete(t *testing.T) {
	w := newWorld(t, nil, "midas", "comet")
	w.claim("lost", eight)
	other := newClaim("v", eight)
	other.Claim.Orders[0].Partner = "gone"
	w.append(other)
	w.asked["midas"] = &fixedLane{err: errors.New("broker is down")}
	report := w.run(Slot(eight))
	if report.Complete || report.Done || report.Reissued != 0 || report.InFlight != 1 || report.Classes.Missing != 1 || !report.Wrong() {
		t.Fatalf("the report reads %+v", report)
	}
	all := strings.Join(report.Incomplete, "\n")
	for _, want := range []string{"node a: lane midas could not be asked (broker is down)", "node a: lane gone is not served here; its 1 orders"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	w.wantReissued(0)
	// A lane that nobody serves does not hold the slot up for ever.
	w.asked["midas"] = w.lanes["midas"]
	if report = w.run(Slot(eight)); report.Complete || !report.Done || report.Reissued != 1 {
		t.Fatalf("the report reads %+v", report)
	}
}

func TestDamageEndsARun(t *testing.T) {
	w := newWorld(t, nil)
	for _, user := range users(50) {
		w.granted(user, eight)
	}
	w.run(Slot(eight))
	paths, err := filepath.Glob(filepath.Join(w.dir, "log", "*.idx"))
	w.must(err)
	f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	w.must(err)
	_, err = f.WriteAt([]byte{0xFF}, 100)
	w.must(errors.Join(err, f.Close()))
	_, err = w.rec.Run(context.Background(), Slot(eight))
	var corrupt *fallbacklog.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Path != paths[0] {
		t.Fatalf("got %v, want a CorruptError of %s", err, paths[0])
	}
	if strings.Contains(err.Error(), "context canceled") {
		t.Fatalf("the error hides its cause: %v", err)
	}
	if report, err := ReadReport(w.rec.opts.Disk, w.opts.Dir, "2027-02-05T20"); err != nil || report.Classes.Matched != 50 {
		t.Fatalf("the report of the run before is gone: %v", err)
	}
}

// What a repair could not bring back makes reports of its time incomplete, and no
// others, and nothing is reissued on its account.
func TestALossMakesReportsOfItsTimeIncomplete(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("early", eight.Add(-time.Hour))
	_, err := w.log.Seal(context.Background())
	w.must(err)
	w.granted("ana", eight.Add(time.Minute))
	lost := readAll(t, w.log, fallbacklog.Granted)[1]
	w.close()
	path := filepath.Join(w.dir, "log", "00000002.seg")
	b, err := os.ReadFile(path)
	w.must(err)
	b[lost.At.Offset()+40] ^= 1
	w.must(os.WriteFile(path, b, 0o600))
	_, err = fallbacklog.Repair(disk.OS{}, filepath.Join(w.dir, "log"), fallbacklog.Reached{})
	w.must(err)
	w.open(nil)

	report := w.run(Request{From: eight, To: eight.Add(time.Hour)})
	if report.Complete || len(report.Incomplete) != 1 || !strings.HasPrefix(report.Incomplete[0], "node a: segment 2 of the log has lost ") || report.Reissued != 0 {
		t.Fatalf("of the hour of the loss: %+v", report)
	}
	if report = w.run(Request{From: eight.Add(-2 * time.Hour), To: eight.Add(-time.Hour)}); !report.Complete {
		t.Fatalf("of an hour before: %v", report.Incomplete)
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("u", eight)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.rec.Run(ctx, Slot(eight)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	w.run(Slot(eight))
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		q    Request
		want string
	}{
		{Slot(eight.Add(59 * time.Minute)), "2027-02-05T20"},
		{Request{}, "all"},
		{Request{To: eight}, "start..2027-02-05T20"},
		{Request{From: eight}, "2027-02-05T20..end"},
		{Request{From: eight, To: eight.Add(3 * time.Hour)}, "2027-02-05T20..2027-02-05T23"},
		{Request{From: eight.Add(time.Second), To: eight.Add(1500 * time.Millisecond)}, "2027-02-05T200001..2027-02-05T200001.500"},
		{Request{From: eight, To: eight.Add(time.Hour), Campaign: "spring-2027", DryRun: true}, "2027-02-05T20@spring-2027.dry-run"},
	} {
		if got := c.q.Run(); got != c.want {
			t.Errorf("%+v is called %q, want %q", c.q, got, c.want)
		}
	}
	w := newWorld(t, nil)
	for _, q := range []Request{{From: eight, To: eight}, {From: eight.Add(1), To: eight}, {Campaign: "../x"}} {
		if _, err := w.rec.Run(context.Background(), q); err == nil {
			t.Errorf("%+v was taken", q)
		}
	}
}
