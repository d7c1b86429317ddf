package fallbacklog_test

import (
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk/crashdisk"
)

func TestShort(t *testing.T) {
	const head = fallbacklog.HeaderSize
	at := fallbacklog.At
	for _, c := range []struct {
		tip, reached fallbacklog.Position
		short        bool
	}{
		{at(1, head), 0, false},
		{at(1, head), at(1, head), false},
		{at(1, head), at(1, head+1), true},
		{at(1, head), at(2, head), true},
		{at(5, 9000), at(5, 9000), false},
		{at(5, 9000), at(5, 9001), true},
		{at(5, 9000), at(4, 9001), false},
		{at(5, 9000), at(6, head), false}, // begun, and nothing written
		{at(5, 9000), at(6, head+1), true},
		{at(5, 9000), at(7, head), true},
	} {
		if got := c.tip.Short(c.reached); got != c.short {
			t.Errorf("a log that ends at %v, known to have reached %v: short is %v", c.tip, c.reached, got)
		}
	}
}

// The tip is behind the last record, wherever the log goes on.
func TestTip(t *testing.T) {
	d, h := crashdisk.New(1), newHistory()
	var tip fallbacklog.Position
	for round := range 4 {
		l := openLog(t, small(d))
		switch now := l.Tip(); {
		case round == 0:
			if now != l.End() {
				t.Errorf("a new log ends at %v with its tip at %v", l.End(), now)
			}
		case now != tip:
			t.Errorf("round %d: the tip is at %v after %v", round, now, tip)
		}
		found := l.Tip()
		if round%2 == 0 {
			if err := h.append(l, 2); err != nil {
				t.Fatal(err)
			}
			if l.Tip() != l.End() {
				t.Errorf("round %d: the tip is at %v, and records go to %v", round, l.Tip(), l.End())
			}
		}
		if l.Found() != found {
			t.Errorf("round %d: the log was found to end at %v, and then at %v", round, found, l.Found())
		}
		tip = l.Tip()
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l.Tip() != tip {
			t.Errorf("round %d: sealing has moved the tip from %v to %v", round, tip, l.Tip())
		}
		if round%2 == 0 {
			d = d.Kill()
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
