package consumer

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	schedule := []time.Duration{time.Second, time.Minute, time.Hour}
	for _, row := range []struct {
		n        int
		wish     time.Duration
		min, max time.Duration
	}{
		{1, 0, 800 * time.Millisecond, 1200 * time.Millisecond},
		{2, 0, 48 * time.Second, 72 * time.Second},
		{9, 0, 48 * time.Minute, 72 * time.Minute},
		// A partner that is too polite must not burn the schedule.
		{2, time.Second, 48 * time.Second, 72 * time.Second},
		{1, 10 * time.Second, 10 * time.Second, 12 * time.Second},
	} {
		for range 1000 {
			if got := pause(schedule, row.n, row.wish); got < row.min || got > row.max {
				t.Fatalf("call %d, wish %v: pause %v, want %v to %v", row.n, row.wish, got, row.min, row.max)
			}
		}
	}
	if got := pause(nil, 1, 0); got != 0 {
		t.Errorf("without a schedule: %v", got)
	}
}
