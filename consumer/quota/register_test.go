package quota_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/consumer/quota"
	"manna/consumer/quota/quotatest"
	"manna/gift"
)

func TestMemory(t *testing.T) {
	var m quota.Memory
	quotatest.Run(t, func(*testing.T) quota.Centre { return &m })
}

// The arithmetic of the promise, for every rate that a configuration may have.
func TestSpacingKeepsTheRate(t *testing.T) {
	most := func(r gift.Rate, apart time.Duration) int {
		return int(math.Ceil(float64(time.Second+quota.Late+apart) / float64(quota.Spacing(r))))
	}
	rapid.Check(t, func(t *rapid.T) {
		r := gift.Rate(rapid.OneOf(rapid.Float64Range(0.0001, 10), rapid.Float64Range(1, 1e6), rapid.Map(rapid.IntRange(1, 1e6), func(n int) float64 { return float64(n) })).Draw(t, "rate"))
		if got, want := most(r, 0), quota.PerSecond(r); got > want {
			t.Fatalf("at %v a second holds up to %d starts, want at most %d", r, got, want)
		}
		if got, want := most(r, 50*time.Millisecond), int(math.Ceil(1.05*float64(quota.PerSecond(r)))); got > want {
			t.Fatalf("at %v with clocks 50 ms apart a second holds up to %d starts, want at most %d", r, got, want)
		}
		if pace, least := float64(time.Second)/float64(quota.Spacing(r)), 0.988*min(float64(r), float64(quota.PerSecond(r))); pace < least {
			t.Fatalf("at %v %.1f slots a second are handed out, want at least %.1f", r, pace, least)
		}
	})
}

// What the constants have to be to each other.
func TestPausesAreLongEnough(t *testing.T) {
	if quota.WipePause < quota.Ahead+quota.Skew || quota.Pause < quota.WipePause {
		t.Error("a register begins anew before what was leased has passed")
	}
	if quota.Pause <= 3*quota.Ask {
		t.Error("a register is used again before every node in standby has noticed and stopped")
	}
	if quota.StandbyAfter <= quota.Ahead+quota.Skew+2*quota.Ask {
		t.Error("a node goes on alone before what others leased has passed")
	}
}

func TestLeasesNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1_800_000_000_000_000_000)
		r := quota.Begin(now, time.Millisecond, quota.Pause)
		last, gap := int64(0), time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(t, "leases") {
			now += rapid.Int64Range(-int64(50*time.Millisecond), int64(time.Second)).Draw(t, "later")
			spacing := time.Duration(rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "spacing"))
			next, s := r.Lease(now, spacing, rapid.IntRange(0, 1000).Draw(t, "want"))
			if s.N > 0 {
				switch {
				case s.First < last+int64(gap) || s.First < now:
					t.Fatalf("slots from %d on, at %d after one at %d with %v to it", s.First, now, last, gap)
				case s.First+int64(s.N-1)*int64(s.Spacing) > now+int64(quota.Ahead):
					t.Fatalf("%d slots from %d on are more than %v ahead of %d", s.N, s.First, quota.Ahead, now)
				case s.Spacing < spacing && now >= r.Kept:
					t.Fatalf("a spacing of %v, asked for %v", s.Spacing, spacing)
				}
				last, gap = s.First+int64(s.N-1)*int64(s.Spacing), s.Spacing
			}
			if next.Strange(now) {
				t.Fatalf("%+v is strange at %d, and is a lease's", next, now)
			}
			r = next
		}
	})
}

func TestRegisterText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := quota.Register{Spacing: time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "spacing")), Next: rapid.Int64().Draw(t, "next"), Kept: rapid.Int64().Draw(t, "kept")}
		text, err := want.AppendText(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got quota.Register
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Fatalf("%s reads as %+v, %v, want %+v", text, got, err, want)
		}
	})
	for _, text := range []string{"", "1", "1 2 3", "1 0 3 4", "1 -2 3 4", "2 1 1 1", "x 1 1 1", "1 a b c"} {
		var r quota.Register
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q reads as %+v", text, r)
		}
	}
}
