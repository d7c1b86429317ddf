package node

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"manna/ledger"
)

func TestClockIsWrongWhereThatIsCertain(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		name        string
		ahead, took time.Duration
		wrong       bool
	}{
		{"agrees", 0, time.Millisecond, false},
		{"nearly agrees", 90 * time.Millisecond, time.Millisecond, false},
		{"ahead", 5 * time.Second, 20 * time.Millisecond, true},
		{"behind", -3 * time.Minute, 20 * time.Millisecond, true},
		{"may be ahead", 130 * time.Millisecond, 80 * time.Millisecond, false},
		{"ahead, told slowly", 5 * time.Second, time.Second, true},
		{"may be ahead, told slowly", time.Second, 3 * time.Second, false},
	} {
		var said bytes.Buffer
		k := newClock(slog.New(slog.NewTextHandler(&said, nil)))
		theirs := at.Add(c.took / 2).Add(-c.ahead)
		k.compare(at, at.Add(c.took), theirs)
		k.compare(at, at.Add(c.took), theirs)
		if (k.note() != "") != c.wrong || c.wrong && (k.ahead()-c.ahead).Abs() > time.Second {
			t.Errorf("%s: ahead by %v, note %q", c.name, k.ahead(), k.note())
		}
		if told := strings.Count(said.String(), "clock is wrong"); told > 1 || (told == 1) != c.wrong {
			t.Errorf("%s: it was told %d times", c.name, told)
		}
		if off := time.Since(k.now()); c.wrong && (off-c.ahead).Abs() > time.Second {
			t.Errorf("%s: now is %v off", c.name, off)
		}
		k.compare(at, at.Add(time.Millisecond), at.Add(-70*time.Millisecond))
		if (k.note() != "") != c.wrong {
			t.Errorf("%s: note %q where it is neither right nor wrong", c.name, k.note())
		}
		k.compare(at, at, at)
		if k.note() != "" {
			t.Errorf("%s: note %q once it agrees", c.name, k.note())
		}
	}
}

// The register's clock goes on by itself: neither a comparison that took long moves it,
// nor what becomes of this node's meanwhile.
func TestTheRegistersClockGoesOn(t *testing.T) {
	k := newClock(slog.New(slog.DiscardHandler))
	began := time.Now()
	theirs := began.Add(-5 * time.Second)
	k.compare(began, began.Add(time.Millisecond), theirs)
	k.compare(began, began.Add(time.Second), theirs.Add(800*time.Millisecond))
	if off := k.now().Sub(theirs) - time.Since(began); off.Abs() > 10*time.Millisecond {
		t.Errorf("a slow comparison moved it by %v", off)
	}
	// The register's server has another clock now.
	k.compare(began, began.Add(time.Second), theirs.Add(time.Hour))
	if off := k.now().Sub(theirs.Add(time.Hour)) - time.Since(began); off.Abs() > time.Second {
		t.Errorf("a clock that was set an hour ahead is off by %v", off)
	}
}

// lateRoll is a register whose clock is behind.
type lateRoll struct{ roll }

func (lateRoll) Nodes(ctx context.Context) ([]ledger.Node, time.Time, error) {
	now := time.Now().Add(-5 * time.Second)
	return []ledger.Node{
		{Name: "b", State: ledger.NodeUp, Seen: now.Add(-10 * time.Minute)},
		{Name: "c", State: ledger.NodeUp, Seen: now.Add(-3 * time.Second)},
		{Name: "d", State: ledger.NodeLost, Seen: now.Add(-time.Hour)},
	}, now, nil
}

func TestMemberLooksAtTheClockAndTheOthers(t *testing.T) {
	m := newMember(lateRoll{}, ledger.Process{Node: "a"}, nil, false, slog.New(slog.DiscardHandler))
	if err := m.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if note := m.clock.note(); !strings.HasPrefix(note, "clock: this node's is 5") || !strings.Contains(note, "ahead of") {
		t.Errorf("note %q", note)
	}
	if silent := m.silent(); len(silent) != 1 || !strings.HasPrefix(silent[0], "node b: nobody has heard of it for 10m0s") {
		t.Errorf("silent %q", silent)
	}
}
