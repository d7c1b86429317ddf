package embedded

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
)

func TestScheduleGivesTheEarliestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h dueHeap[entry]
		var want []int64
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				due := rapid.Int64Range(0, 20).Draw(t, "due")
				h.push(entry{due: due})
				want = append(want, due)
				slices.Sort(want)
			},
			"pop": func(t *rapid.T) {
				if len(want) == 0 {
					t.Skip("empty")
				}
				if got := h.pop().due; got != want[0] {
					t.Fatalf("got %d, want %d", got, want[0])
				}
				want = want[1:]
			},
			"": func(t *rapid.T) {
				if len(h) != len(want) {
					t.Fatalf("%d entries, want %d", len(h), len(want))
				}
			},
		})
	})
}

func TestEntryOfAReissueIsDueAtItsRecord(t *testing.T) {
	now := time.Now()
	rec := func(kind fallbacklog.Kind, at, due time.Time) *fallbacklog.Record {
		return &fallbacklog.Record{Kind: kind, Time: at, Event: &fallbacklog.Event{Due: due}}
	}
	for name, c := range map[string]struct {
		rec  *fallbacklog.Record
		want time.Time
	}{
		"deferred":                      {rec(fallbacklog.Deferred, now, now.Add(time.Hour)), now.Add(time.Hour)},
		"unknown":                       {rec(fallbacklog.Unknown, now, now.Add(-time.Hour)), now.Add(-time.Hour)},
		"deferred without a due time":   {rec(fallbacklog.Deferred, now.Add(-time.Minute), time.Time{}), now.Add(-time.Minute)},
		"reissued":                      {rec(fallbacklog.Reissued, now.Add(-time.Minute), time.Time{}), now.Add(-time.Minute)},
		"reissued by a clock far ahead": {rec(fallbacklog.Reissued, now.Add(time.Hour), time.Time{}), now},
	} {
		if got := entryOf(c.rec, now).due; got != c.want.UnixNano() {
			t.Errorf("%s: due %v, want %v", name, time.Unix(0, got), c.want)
		}
	}
}
