package reconcile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/queue"
)

// model is the same comparison in memory: all records in a map, one order at a
// time, by the words of the package comment.
type model struct {
	q      Request
	lanes  map[string]*fixedLane
	slack  time.Duration
	claims map[gift.OrderID]*fallbacklog.Record
	events map[gift.OrderID][]*fallbacklog.Record
}

func newModel(q Request, lanes map[string]*fixedLane, slack time.Duration, recs []*fallbacklog.Record) *model {
	m := &model{q: q, lanes: lanes, slack: slack, claims: map[gift.OrderID]*fallbacklog.Record{}, events: map[gift.OrderID][]*fallbacklog.Record{}}
	for _, rec := range recs {
		if rec.Event != nil {
			m.events[rec.Event.Order] = append(m.events[rec.Event.Order], rec)
		}
		if rec.Claim != nil {
			for _, o := range rec.Claim.Orders {
				if m.claims[o.ID] == nil {
					m.claims[o.ID] = rec
				}
			}
		}
	}
	return m
}

func (m *model) in(at time.Time, campaign string) bool {
	return !at.Before(m.q.From) && at.Before(m.q.To) && (m.q.Campaign == "" || m.q.Campaign == campaign)
}

func (m *model) classes() map[gift.OrderID]Class {
	found := map[gift.OrderID]Class{}
	for id, claim := range m.claims {
		if m.in(claim.Time, claim.Claim.Campaign) {
			found[id] = m.class(id, claim)
		}
	}
	for id, events := range m.events {
		for _, rec := range events {
			if m.claims[id] == nil && rec.Kind == fallbacklog.Granted {
				if m.in(rec.Time, rec.Event.Campaign) {
					found[id] = Unexpected
				}
				break
			}
		}
	}
	return found
}

func (m *model) class(id gift.OrderID, claim *fallbacklog.Record) Class {
	order, _ := claim.Claim.Order(id)
	references, grants, differs := map[string]bool{}, 0, false
	story := fallbacklog.Story{}
	story.Apply(claim)
	due := time.Time{}
	for _, rec := range m.events[id] {
		e := rec.Event
		story.Apply(rec)
		switch rec.Kind {
		case fallbacklog.Granted:
			grants++
			differs = differs || order.Amount != 0 && e.Amount != order.Amount
			if e.Reference != "" {
				references[e.Reference] = true
			}
		case fallbacklog.Deferred, fallbacklog.Unknown:
			due = e.Due
		case fallbacklog.Reissued:
			due = rec.Time
		}
	}
	switch {
	case len(references) > 1:
		return Duplicate
	case differs:
		return Mismatched
	case grants > 0:
		return Matched
	case story.State == gift.StateRefused:
		return Refused
	case story.State == gift.StateParked:
		return Parked
	}
	if lane := m.lanes[order.Partner]; lane != nil {
		s := lane.status
		reaches := func(t, watermark time.Time) bool {
			return !watermark.IsZero() && !t.Add(m.slack).Before(watermark)
		}
		switch {
		case lane.err != nil,
			reaches(claim.Time, s.Oldest), reaches(claim.Time, s.AsOf),
			!due.IsZero() && (reaches(due, s.OldestDue) || reaches(due, s.AsOf)):
			return InFlight
		}
	}
	if story.Open || story.State == gift.StateUnknown {
		return InDoubt
	}
	return Missing
}

func TestStreamingAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		now := eight.Add(2 * time.Hour)
		log, err := fallbacklog.Open(fallbacklog.Options{Dir: "/log", Node: "a", Disk: crashdisk.New(1), Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		// The times of the model are few, so that borders and watermarks are hit.
		at := rapid.Custom(func(t *rapid.T) time.Time {
			return eight.Add(time.Duration(rapid.IntRange(-2, 14).Draw(t, "tick")) * 5 * time.Minute)
		})
		partners := []string{"midas", "comet", "nobody"}
		campaigns := []string{"spring", "autumn"}
		claims := make([]*fallbacklog.Record, rapid.IntRange(1, 12).Draw(t, "claims"))
		for i := range claims {
			c := newClaim(fmt.Sprint("u", i), at.Draw(t, "claimed"))
			c.Claim.Campaign = rapid.SampledFrom(campaigns).Draw(t, "campaign")
			c.Claim.Orders[0].Partner = rapid.SampledFrom(partners).Draw(t, "partner")
			c.Claim.Orders[0].Amount = int64(rapid.IntRange(0, 2).Draw(t, "amount"))
			claims[i] = c
		}
		kinds := []fallbacklog.Kind{fallbacklog.Claimed, fallbacklog.Claimed, fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused,
			fallbacklog.Deferred, fallbacklog.Unknown, fallbacklog.Parked, fallbacklog.Reissued, fallbacklog.Sent}
		for range rapid.IntRange(0, 40).Draw(t, "records") {
			c := rapid.SampledFrom(claims).Draw(t, "of")
			var rec *fallbacklog.Record
			switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
			case fallbacklog.Claimed:
				again := *c
				again.At = 0
				rec = &again
			case fallbacklog.Sent:
				rec = &fallbacklog.Record{Kind: kind, Time: now, Sent: &fallbacklog.Watermark{Queue: "q", Through: 1}}
			default:
				rec = about(c, kind, at.Draw(t, "time"), fallbacklog.Event{
					Due: at.Draw(t, "due"), Reference: rapid.SampledFrom([]string{"", "R1", "R2"}).Draw(t, "reference"),
				})
				rec.Event.Amount = int64(rapid.IntRange(0, 2).Draw(t, "granted"))
			}
			if err := log.Append(ctx, rec); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 5).Draw(t, "seal") == 0 {
				if _, err := log.Seal(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		lanes, asked := map[string]*fixedLane{}, map[string]Lane{}
		for _, p := range partners[:2] {
			s := queue.Status{AsOf: now}
			if rapid.Bool().Draw(t, "backlog") {
				s.Oldest = at.Draw(t, "oldest")
			}
			if rapid.Bool().Draw(t, "deferred") {
				s.OldestDue = at.Draw(t, "oldest due")
			}
			lanes[p] = &fixedLane{status: s}
			if rapid.IntRange(0, 7).Draw(t, "deaf") == 0 {
				lanes[p].err = errors.New("down")
			}
			asked[p] = lanes[p]
		}
		q := Slot(eight)
		q.DryRun = true
		q.Campaign = rapid.SampledFrom([]string{"", "spring"}).Draw(t, "only")
		slack := time.Duration(rapid.IntRange(1, 6).Draw(t, "slack")) * time.Minute
		d := crashdisk.New(1)
		rec, err := New(Options{Log: log, Queue: &sent{}, Lanes: func() map[string]Lane { return asked }, Dir: "/reports", Disk: d, Slack: slack,
			Workers: rapid.IntRange(1, 3).Draw(t, "workers"), Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		report, err := rec.Run(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		want := newModel(q, lanes, slack, readAll(t, log)).classes()
		var counts Counts
		listed := map[gift.OrderID]Class{}
		for id, class := range want {
			*counts.of(class)++
			if class.Discrepancy() {
				listed[id] = class
			}
		}
		if report.Classes != counts {
			t.Fatalf("classes\n got %+v\nwant %+v", report.Classes, counts)
		}
		for _, d := range report.Discrepancies {
			if listed[d.OrderID] != d.Class {
				t.Fatalf("order %v is listed as %v, want %v", d.OrderID, d.Class, listed[d.OrderID])
			}
		}
	})
}

func TestMergeGivesEachOrderOnceAndInOrder(t *testing.T) {
	w := newWorld(t, nil)
	claims := make([]*fallbacklog.Record, 3000)
	for i, user := range users(len(claims)) {
		claims[i] = newClaim(user, eight)
	}
	want := 0
	add := func(recs []*fallbacklog.Record) {
		for len(recs) > 0 {
			n := min(len(recs), 1+rand.IntN(300))
			w.append(recs[:n]...)
			want += n
			recs = recs[n:]
		}
	}
	add(claims)
	for i := range 4 {
		var events []*fallbacklog.Record
		for _, c := range claims[:700*(i+1)] {
			events = append(events, about(c, fallbacklog.Deferred, eight, fallbacklog.Event{Due: eight}))
		}
		add(events)
	}
	indexes, err := w.log.Seal(context.Background())
	w.must(err)
	for _, n := range []int{1, 2, 7, 16} {
		rows, orders := 0, 0
		var last [16]byte
		for _, s := range spans(n) {
			w.must(merge(context.Background(), [][]*fallbacklog.Index{indexes}, s, newNames(), func(e *evidence) error {
				of := e.rows
				id := of[0].ID
				if orders > 0 && bytes.Compare(id[:], last[:]) <= 0 {
					t.Fatalf("order %x comes after %x", id, last)
				}
				last = id
				orders++
				rows += len(of)
				for i, row := range of {
					if row.ID != id || i > 0 && row.At <= of[i-1].At {
						t.Fatalf("the rows of order %x are not its own in their order", id)
					}
				}
				return nil
			}))
		}
		if orders != len(claims) || rows != want {
			t.Fatalf("%d spans of %d indexes: %d orders with %d rows, want %d with %d", n, len(indexes), orders, rows, len(claims), want)
		}
	}
	// Whoever stops a merge early leaves nothing behind; goleak looks.
	stop := errors.New("enough")
	if err := merge(context.Background(), [][]*fallbacklog.Index{indexes}, spans(1)[0], newNames(), func(*evidence) error { return stop }); err != stop {
		t.Fatalf("got %v, want the visitor's error", err)
	}
}

func TestSpansHoldEveryIDOnce(t *testing.T) {
	for _, n := range []int{1, 2, 3, 16, 100} {
		list := spans(n)
		if list[0].from != ([16]byte{}) || list[n-1].to != nil {
			t.Fatalf("%d spans begin at %x and end at %v", n, list[0].from, list[n-1].to)
		}
		for i := 1; i < n; i++ {
			if list[i-1].to == nil || *list[i-1].to != list[i].from || binary.BigEndian.Uint64(list[i].from[:]) == 0 {
				t.Fatalf("span %d of %d does not begin where the one before ends", i, n)
			}
		}
	}
}

// TestNothingOnItsWayIsTakenForMissing runs while lanes deliver as fast as they
// can and claims go on: whatever the interleaving, nothing may be reissued.
func TestNothingOnItsWayIsTakenForMissing(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Slack = 50 * time.Millisecond })
	w.set(time.Time{})
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	const n = 3000
	for p := range 2 {
		all.Go(func() {
			for i := range n / 2 {
				if err := w.log.Append(ctx, newClaim(fmt.Sprint(p, "-", i), w.now())); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var delivered atomic.Int64
	progress := make(chan struct{}, n)
	deliver := func(m *queue.Message) error {
		claim := &fallbacklog.Record{Claim: m.Claim, At: m.Origin}
		if m.Attempts == 0 && m.Order.ID[0]%4 == 0 {
			due := w.now().Add(time.Millisecond)
			deferred := about(claim, fallbacklog.Deferred, w.now(), fallbacklog.Event{Attempts: 1, Due: due})
			return errors.Join(w.log.Append(ctx, deferred), w.lanes["midas"].Defer(ctx, m, due))
		}
		granted := about(claim, fallbacklog.Granted, w.now(), fallbacklog.Event{Reference: "R", Attempts: 1})
		err := errors.Join(w.log.Append(ctx, granted), w.lanes["midas"].Ack(ctx, m))
		if delivered.Add(1)%100 == 0 {
			progress <- struct{}{}
		}
		return err
	}
	for range 4 {
		all.Go(func() {
			for {
				m, err := w.lanes["midas"].Receive(ctx)
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					err = deliver(m)
				}
				if err != nil {
					t.Error(err)
					stop()
					return
				}
			}
		})
	}
	defer all.Wait()
	defer stop()
	runs := 0
	for ; delivered.Load() < n; runs++ {
		report, err := w.rec.Run(ctx, Request{})
		w.must(err)
		if report.Reissued != 0 || report.Classes.Open()+report.Classes.Duplicate+report.Classes.Unexpected != 0 {
			t.Fatalf("run %d found %+v and reissued %d", runs, report.Classes, report.Reissued)
		}
		// Every run seals a segment; a hundred orders between two are enough.
		select {
		case <-progress:
		case <-ctx.Done():
			t.FailNow()
		}
	}
	if got, want := w.run(Request{}).Classes, (Counts{Matched: n}); got != want {
		t.Fatalf("in the end got %+v, want %+v", got, want)
	}
	t.Logf("%d runs beside the lanes", runs)
}

// BenchmarkMerge reports how many index rows a second the comparison judges.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []int64{64 << 20, 1 << 20} {
		b.Run(fmt.Sprintf("segments of %d MiB", size>>20), func(b *testing.B) { benchmarkMerge(b, size) })
	}
}

func benchmarkMerge(b *testing.B, segment int64) {
	dir := b.TempDir()
	ctx := context.Background()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(dir, "log"), Node: "a", SegmentBytes: segment})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	const n = 300_000
	for i := 0; i < n; i += 1000 {
		var claims, grants []*fallbacklog.Record
		for j := range 1000 {
			claims = append(claims, newClaim(fmt.Sprint("u", i+j), eight))
		}
		if err := log.Append(ctx, claims...); err != nil {
			b.Fatal(err)
		}
		for _, c := range claims {
			grants = append(grants, about(c, fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
		}
		if err := log.Append(ctx, grants...); err != nil {
			b.Fatal(err)
		}
	}
	indexes, err := log.Seal(ctx)
	if err != nil {
		b.Fatal(err)
	}
	var rows int64
	b.ReportAllocs()
	for b.Loop() {
		c := newComparison([][]*fallbacklog.Index{indexes}, Slot(eight), nil)
		total, err := c.run(ctx, 2, func(context.Context, []finding) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		rows += total.rows
		if got := total.lanes[1].Matched; got != n {
			b.Fatalf("%d matched, want %d", got, n)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(len(indexes)), "indexes")
}
