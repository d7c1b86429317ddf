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
		{"told too slowly", 5 * time.Second, time.Second, false},
	} {
		var said bytes.Buffer
		k := &clock{logger: slog.New(slog.NewTextHandler(&said, nil))}
		theirs := at.Add(c.took / 2).Add(-c.ahead)
		k.compare(at, at.Add(c.took), theirs)
		k.compare(at, at.Add(c.took), theirs)
		if wrong := k.wrongBy() == c.ahead && c.ahead != 0; wrong != c.wrong || (k.note() != "") != c.wrong {
			t.Errorf("%s: wrong by %v, note %q", c.name, k.wrongBy(), k.note())
		}
		if told := strings.Count(said.String(), "clock is wrong"); told > 1 || (told == 1) != c.wrong {
			t.Errorf("%s: it was told %d times", c.name, told)
		}
		if off := time.Since(k.now()); c.wrong && (off-c.ahead).Abs() > time.Second {
			t.Errorf("%s: now is %v off", c.name, off)
		}
		k.compare(at, at, at)
		if k.wrongBy() != 0 || k.note() != "" {
			t.Errorf("%s: still wrong by %v once it agrees", c.name, k.wrongBy())
		}
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
