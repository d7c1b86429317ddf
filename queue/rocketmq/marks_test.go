package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"manna/breaker"
)

// TestMarksKeepTheLowest holds what is kept of the marks to all of them: from any
// moment on, the first kept one is as low as the lowest stored since.
func TestMarksKeepTheLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m marks
		var all []low
		at := evening
		for range rapid.IntRange(1, 60).Draw(t, "marks") {
			at = at.Add(time.Duration(rapid.IntRange(-2, 5).Draw(t, "step")) * time.Second)
			l := low{stored: at, value: evening.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "value")) * time.Second)}
			m.add(claimTimes, l)
			all = append(all, l)
		}
		kept := m.lows[claimTimes]
		if !slices.IsSortedFunc(kept, func(a, b low) int { return a.stored.Compare(b.stored) }) {
			t.Fatalf("kept out of order: %v", kept)
		}
		for s := -200; s < 400; s += 3 {
			since := evening.Add(time.Duration(s) * time.Second)
			i := slices.IndexFunc(kept, func(l low) bool { return !l.stored.Before(since) })
			for _, l := range all {
				if !l.stored.Before(since) && (i < 0 || kept[i].value.After(l.value)) {
					t.Fatalf("since %v a mark of %v is not covered", since, l.value)
				}
			}
		}
	})
}

func TestManyMarksAreHalved(t *testing.T) {
	var m marks
	const n = 3 * maxMarks
	for i := range n {
		m.add(dueTimes, low{stored: evening.Add(time.Duration(i) * time.Second), value: evening.Add(time.Duration(i) * time.Second)})
		if len(m.lows[dueTimes]) > maxMarks {
			t.Fatalf("%d marks are kept, more than %d", len(m.lows[dueTimes]), maxMarks)
		}
	}
	for i := 0; i < n; i += 9973 {
		since := evening.Add(time.Duration(i) * time.Second)
		k := slices.IndexFunc(m.lows[dueTimes], func(l low) bool { return !l.stored.Before(since) })
		if k < 0 || m.lows[dueTimes][k].value.After(since) {
			t.Fatalf("the mark stored at %v is not covered", since)
		}
	}
}

func TestMarksOfOtherReleases(t *testing.T) {
	value := evening.Truncate(0)
	if got := decodeMark(encodeMark(dueTimes, value)); len(got) != 1 || !got[dueTimes].Equal(value) {
		t.Errorf("a mark is read as %v, want %v", got, value)
	}
	newer := protowire.AppendVarint(protowire.AppendTag(nil, fMarkVersion, protowire.VarintType), formatVersion+1)
	got := decodeMark(append(newer, "whatever that release writes"...))
	for kind := range markKinds {
		if low, ok := got[kind]; !ok || low.After(time.Unix(0, 0)) {
			t.Errorf("a mark of a newer release allows messages from %v on, %v; want any", low, ok)
		}
	}
	for _, foreign := range []string{"", "hello", "\xff\xff\xff"} {
		if got := decodeMark([]byte(foreign)); len(got) > 0 {
			t.Errorf("%q is read as a mark of %v", foreign, got)
		}
	}
}

// newTestMarks has marks whose topic is there, and counts what is sent.
func newTestMarks(b *breaker.Breaker) (*marks, *answers) {
	a := &answers{status: primitive.SendOK}
	m := &marks{topics: newProvision(nil, slog.New(slog.DiscardHandler)), sender: newTestSender(a, b), topic: "t", group: "t"}
	m.topics.known["t"] = present
	return m, a
}

// TestYoungMarksCover: one mark covers what comes within seconds and is not much
// older; where a broker has lost its store another is stored.
func TestYoungMarksCover(t *testing.T) {
	m, a := newTestMarks(nil)
	for i, step := range []struct {
		at    time.Time
		renew bool
		want  int
	}{
		{at: evening, want: 1}, {at: evening.Add(-markSlack), want: 1}, {at: evening.Add(-2 * markSlack), want: 2},
		{at: evening, want: 2}, {at: evening, renew: true, want: 3}, {at: evening, want: 3},
	} {
		if step.renew {
			m.renew()
		}
		if err := m.cover(t.Context(), fails, claimTimes, step.at); err != nil {
			t.Fatal(err)
		}
		if len(a.brokers) != step.want {
			t.Errorf("step %d: %d marks are stored, want %d", i, len(a.brokers), step.want)
		}
	}
}

// TestPatientMarksAreInNobodysWay: a feeder that waits at the breaker does not hold up
// who defers.
func TestPatientMarksAreInNobodysWay(t *testing.T) {
	b, err := breaker.New("queue", breaker.Settings{Window: time.Minute, FailureRatio: 0.5, MinCalls: 3, OpenFor: time.Hour, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m, a := newTestMarks(b)
	a.err = errors.New("no answer")
	for range 10 {
		m.cover(t.Context(), fails, dueTimes, evening)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fed := make(chan error, 1)
	go func() { fed <- m.cover(ctx, waits, claimTimes, evening) }()
	for m.written[claimTimes].mu.TryLock() {
		m.written[claimTimes].mu.Unlock() // it has not begun yet
		runtime.Gosched()
	}
	if err := m.cover(t.Context(), fails, dueTimes, evening); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("a mark of those who defer: %v, want ErrOpen at once", err)
	}
	cancel()
	if err := <-fed; !errors.Is(err, context.Canceled) {
		t.Errorf("the feeder: %v, want that it was waiting", err)
	}
}
