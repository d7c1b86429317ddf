package consumer_test

import (
	"os"
	"path/filepath"
	"testing"

	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// losing grants three orders at a partner, damages the record of the first grant,
// and goes on after a repair: with the lanes' checkpoints, or without them.
func losing(t *testing.T, script partnertest.Script, s seat, keepLanes bool) (*world, *partnertest.Partner, gift.OrderID) {
	w := newWorld(t)
	p := w.partner("p", script, s)
	w.claim(3, "p")
	w.run()
	w.settled(3)
	r := w.log.Reader(0, fallbacklog.Granted)
	grant, err := r.TryNext()
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	logs := filepath.Join(w.dir, "log")
	path := filepath.Join(logs, "00000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[grant.At.Offset()+40] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := fallbacklog.Repair(disk.OS{}, logs, fallbacklog.Reached{}); err != nil || len(done) != 1 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	if !keepLanes {
		if err := os.RemoveAll(filepath.Join(w.dir, "lanes")); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	w.run()
	w.settled(3)
	return w, p, grant.Event.Order
}

// The log has lost an outcome. Whatever the partner can do, it hands the gift over
// once: it is asked, or it dedupes, or a person decides.
func TestALostOutcomeIsNoSecondGift(t *testing.T) {
	for name, c := range map[string]struct {
		script partnertest.Script
		seat   seat
		want   gift.State
	}{
		"a partner that can do neither": {partnertest.Script{}, seat{}, gift.StateParked},
		"a partner that is asked":       {partnertest.Script{}, seat{queries: true}, gift.StateGranted},
		"a partner that dedupes":        {partnertest.Script{Dedupe: true}, seat{idempotent: true}, gift.StateGranted},
	} {
		for _, keepLanes := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, p, lost := losing(t, c.script, c.seat, keepLanes)
				s, err := w.log.Order(lost)
				if err != nil || s.State != c.want {
					t.Errorf("the order is %v (%s: %s), %v, want %v", s.State, s.Code, s.Reason, err, c.want)
				}
				w.close()
				if got := len(p.Books().Grants); got != 3 {
					t.Errorf("the partner granted %d orders, want 3", got)
				}
				if v := w.verdict(); v.Doubled > 0 || v.Lost > 0 {
					t.Errorf("%d doubled, %d lost: %v", v.Doubled, v.Lost, v.Examples)
				}
			})
		}
	}
}
