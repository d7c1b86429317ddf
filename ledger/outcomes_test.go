package ledger_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

var noon = time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)

// at makes an event of a node, as many seconds after noon.
func at(node string, seconds int, position fallbacklog.Position, kind fallbacklog.Kind, attempts int) ledger.OrderEvent {
	return ledger.OrderEvent{Node: node, At: position, Time: noon.Add(time.Duration(seconds) * time.Second), Kind: kind, Attempts: attempts,
		Reference: fmt.Sprint(node, position), Reason: fmt.Sprint(kind, " by ", node)}
}

func TestFold(t *testing.T) {
	const (
		attempted, granted, refused = fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused
		deferred, parked, reissued  = fallbacklog.Deferred, fallbacklog.Parked, fallbacklog.Reissued
	)
	for name, c := range map[string]struct {
		events   []ledger.OrderEvent
		state    gift.State
		node     string
		attempts int
		open     bool
	}{
		"nothing is known":                        {nil, gift.StateAccepted, "", 0, false},
		"an attempt began":                        {[]ledger.OrderEvent{at("a", 1, 1, attempted, 1)}, gift.StateAccepted, "", 1, true},
		"the later outcome stands":                {[]ledger.OrderEvent{at("a", 2, 1, parked, 3), at("b", 1, 9, deferred, 2)}, gift.StateParked, "a", 3, false},
		"of equal times the last name":            {[]ledger.OrderEvent{at("a", 1, 9, parked, 1), at("b", 1, 1, deferred, 2)}, gift.StateDeferred, "b", 2, false},
		"a grant is never undone":                 {[]ledger.OrderEvent{at("a", 1, 1, granted, 1), at("b", 9, 1, refused, 2)}, gift.StateGranted, "a", 1, false},
		"a refusal is not undone by a late copy":  {[]ledger.OrderEvent{at("a", 1, 1, refused, 1), at("b", 9, 1, parked, 2)}, gift.StateRefused, "a", 1, false},
		"of grants the first stands":              {[]ledger.OrderEvent{at("b", 2, 1, granted, 2), at("c", 1, 1, granted, 1)}, gift.StateGranted, "c", 1, false},
		"of grants at one time the first name":    {[]ledger.OrderEvent{at("b", 1, 1, granted, 2), at("a", 1, 7, granted, 1)}, gift.StateGranted, "a", 1, false},
		"nothing is open after a grant":           {[]ledger.OrderEvent{at("a", 1, 1, granted, 1), at("b", 2, 1, attempted, 2)}, gift.StateGranted, "a", 1, false},
		"an attempt at another node is open":      {[]ledger.OrderEvent{at("a", 1, 1, deferred, 1), at("b", 2, 1, attempted, 2)}, gift.StateDeferred, "a", 2, true},
		"an outcome ends another node's attempt":  {[]ledger.OrderEvent{at("a", 1, 1, attempted, 1), at("b", 2, 1, deferred, 1)}, gift.StateDeferred, "b", 1, false},
		"in one log its order counts, not clocks": {[]ledger.OrderEvent{at("a", 9, 1, attempted, 1), at("a", 2, 2, deferred, 1)}, gift.StateDeferred, "a", 1, false},
		"a parked order that was reissued":        {[]ledger.OrderEvent{at("a", 1, 1, parked, 5), at("b", 2, 1, reissued, 0)}, gift.StateAccepted, "a", 0, false},
		"and is attempted again":                  {[]ledger.OrderEvent{at("a", 1, 1, parked, 5), at("b", 2, 1, reissued, 0), at("a", 3, 2, attempted, 1)}, gift.StateAccepted, "a", 1, true},
		"and is reissued once more":               {[]ledger.OrderEvent{at("a", 1, 1, parked, 5), at("a", 3, 2, attempted, 1), at("b", 4, 1, reissued, 0)}, gift.StateAccepted, "a", 1, true},
		"an order reissued before it was parked":  {[]ledger.OrderEvent{at("a", 3, 1, parked, 5), at("b", 2, 1, reissued, 0)}, gift.StateParked, "a", 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := ledger.Fold(c.events)
			if got.State != c.state || got.Node != c.node || got.Attempts != c.attempts || got.Open != c.open {
				t.Errorf("got %v by %q, %d attempts, open %v; want %v by %q, %d, %v", got.State, got.Node, got.Attempts, got.Open, c.state, c.node, c.attempts, c.open)
			}
		})
	}
}

func TestFoldDoesNotDependOnTheArrangement(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kinds := ledger.OrderKinds()
	for range 2000 {
		var events []ledger.OrderEvent
		have := map[string]bool{}
		for i := range 1 + random.IntN(9) {
			// Of a node and sort there is one, and times are often equal.
			e := at(string(rune('a'+random.IntN(3))), random.IntN(3), fallbacklog.Position(i), kinds[random.IntN(len(kinds))], i)
			if key := fmt.Sprint(e.Node, e.Sort()); !have[key] {
				have[key] = true
				events = append(events, e)
			}
		}
		want := ledger.Fold(events)
		for range 5 {
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			if got := ledger.Fold(events); got != want {
				t.Fatalf("%+v\ngot  %+v\nwant %+v", events, got, want)
			}
		}
	}
}

// TestFoldOverOneLogSaysWhatTheStorySays over many short histories, some of which no lane
// would write.
func TestFoldOverOneLogSaysWhatTheStorySays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kinds := ledger.OrderKinds()
	type seen struct {
		state    gift.State
		open     bool
		attempts int
		due      time.Time
		reason   string
	}
	for range 20_000 {
		var story fallbacklog.Story
		story.Apply(&fallbacklog.Record{Kind: fallbacklog.Claimed})
		kept := make(map[ledger.EventSort]ledger.OrderEvent)
		var told []string
		for i := range 1 + random.IntN(8) {
			rec := &fallbacklog.Record{At: fallbacklog.Position(i + 1), Time: noon.Add(time.Duration(random.IntN(3)) * time.Second), Kind: kinds[random.IntN(len(kinds))]}
			rec.Event = &fallbacklog.Event{Attempts: i + 1, Due: noon.Add(time.Duration(i) * time.Minute), Reason: fmt.Sprint(i)}
			told = append(told, rec.Kind.String())
			story.Apply(rec)
			e := ledger.EventsOf("a", []*fallbacklog.Record{rec})[0]
			if earlier, ok := kept[e.Sort()]; !ok || e.Replaces(&earlier) {
				kept[e.Sort()] = e
			}
		}
		s := ledger.Fold(slices.Collect(maps.Values(kept)))
		got, want := seen{s.State, s.Open, s.Attempts, s.Due, s.Reason}, seen{story.State, story.Open, story.Attempts, story.Due, story.Reason}
		if want.state.Final() {
			want.due = time.Time{} // there is no next attempt
		}
		if want.state == gift.StateGranted {
			// What comes after a grant says nothing of the order any more.
			want.open, want.attempts, want.reason = false, got.attempts, got.reason
		}
		if got != want {
			t.Fatalf("after %v:\ngot  %+v\nwant %+v", told, got, want)
		}
	}
}

func TestBatchTakesOutcomesOnlyWhereTheyAreWanted(t *testing.T) {
	order := gift.OrderID{1}
	record := func(at fallbacklog.Position, kind fallbacklog.Kind, attempts int) *fallbacklog.Record {
		return &fallbacklog.Record{At: at, Kind: kind, Time: noon, Event: &fallbacklog.Event{Order: order, Attempts: attempts}}
	}
	claim := &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: &gift.Claim{DeliverBy: noon, Orders: []gift.Order{{ID: order}}}}
	recs := []*fallbacklog.Record{claim, record(1, fallbacklog.Attempted, 1), record(2, fallbacklog.Deferred, 1),
		record(3, fallbacklog.Attempted, 2), record(4, fallbacklog.Granted, 2), record(5, fallbacklog.Refused, 3)}
	for _, wanted := range []bool{false, true} {
		b := &ledger.Batch{Node: "a", Outcomes: wanted}
		for _, rec := range recs {
			b.Add(rec)
		}
		wantEvents, wantRecords := 0, 1
		if wanted {
			wantEvents, wantRecords = 2, len(recs) // of each sort the last, and the grant
		}
		if len(b.Events) != wantEvents || b.Records() != wantRecords || (len(b.Claims[0].Orders) == 1) != wanted {
			t.Fatalf("wanted %v: %d events of %d records and %+v", wanted, len(b.Events), b.Records(), b.Claims[0])
		}
		if wanted && (b.Events[0].At != 3 || b.Events[1].Kind != fallbacklog.Granted) {
			t.Fatalf("events %+v", b.Events)
		}
	}
}
