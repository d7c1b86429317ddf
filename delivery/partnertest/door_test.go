package partnertest

import (
	"math/rand/v2"
	"testing"
	"time"
)

func paced(a *arrivals, from, n int, every time.Duration) {
	for i := range n {
		a.add(int64(from)*int64(time.Second) + int64(i)*int64(every))
	}
}

// flushed is a caller at 100/s whose queued calls come in at once after a stall
// that ended at 1 s.
func flushed(queued int) func(*arrivals) {
	return func(a *arrivals) {
		paced(a, 1, queued, 100*time.Microsecond)
		for i := 1; i < 300; i++ {
			a.add(int64(time.Second) + int64(i)*int64(10*time.Millisecond))
		}
	}
}

func TestPeak(t *testing.T) {
	ms := Duration(time.Millisecond)
	for _, c := range []struct {
		name          string
		fill          func(a *arrivals)
		rate          float64
		stalls        []Stall
		most, overrun int
	}{
		{"none", func(*arrivals) {}, 10, nil, 0, 0},
		{"even", func(a *arrivals) { paced(a, 0, 1000, 10*time.Millisecond) }, 100, nil, 100, 0},
		{"a second is half-open", func(a *arrivals) { a.add(0); a.add(int64(time.Second)) }, 1, nil, 1, 0},
		{"just within 2 %", func(a *arrivals) { paced(a, 0, 1020, time.Second/1020) }, 1000, nil, 1020, 0},
		{"just above 2 %", func(a *arrivals) { paced(a, 0, 1021, time.Second/1021) }, 1000, nil, 1021, 1},
		{"500 × 1.02 is 510", func(a *arrivals) { paced(a, 0, 511, time.Second/512) }, 500, nil, 511, 1},
		{"one more at a low rate", func(a *arrivals) { a.add(0); a.add(1) }, 1, nil, 2, 0},
		{"two more at a low rate", func(a *arrivals) { a.add(0); a.add(1); a.add(2) }, 1, nil, 3, 1},
		{"less than one a second", func(a *arrivals) { a.add(0); a.add(1) }, 0.5, nil, 2, 0},
		{"three seconds at double", func(a *arrivals) { paced(a, 0, 600, 5*time.Millisecond) }, 100, nil, 200, 3},
		{"a burst across a clock second", func(a *arrivals) { paced(a, 0, 1, 0); a.add(9e8); paced(a, 1, 150, time.Millisecond) }, 100, nil, 151, 1},
		{"any rate", func(a *arrivals) { paced(a, 0, 600, 5*time.Millisecond) }, 0, nil, 200, 0},
		// 500 ms of stalls let half as many again in.
		{"after a stall", flushed(50), 100, []Stall{{500 * ms, 1000 * ms}}, 149, 0},
		{"too many after a stall", flushed(55), 100, []Stall{{500 * ms, 1000 * ms}}, 154, 1},
		{"a stall within its reach", flushed(50), 100, []Stall{{300 * ms, 800 * ms}}, 149, 0},
		{"a stall long past", flushed(50), 100, []Stall{{0, 495 * ms}}, 149, 1},
		{"a short stall past", flushed(50), 100, []Stall{{500 * ms, 520 * ms}, {900 * ms, 950 * ms}}, 149, 1},
		{"a stall still to come", flushed(50), 100, []Stall{{2100 * ms, 2600 * ms}}, 149, 1},
		{"two short stalls", flushed(50), 100, []Stall{{800 * ms, 1050 * ms}, {1100 * ms, 1350 * ms}}, 149, 0},
	} {
		var a arrivals
		c.fill(&a)
		if most, overrun := a.peak(c.rate, c.stalls); most != c.most || overrun != c.overrun {
			t.Errorf("%s: got %d at most, %d overrun; want %d, %d", c.name, most, overrun, c.most, c.overrun)
		}
	}
}

// The sliding count against one that looks at every pair.
func TestPeakAgainstPlainCount(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, seed))
	for range 50 {
		var a arrivals
		at, want := int64(0), 0
		for range 200 {
			at += random.Int64N(int64(40 * time.Millisecond))
			a.add(at)
		}
		for i := range a.n {
			n := 0
			for j := i; j < a.n && a.at(j) < a.at(i)+int64(time.Second); j++ {
				n++
			}
			want = max(want, n)
		}
		if got, _ := a.peak(1, nil); got != want {
			t.Fatalf("seed %d: got %d, want %d", seed, got, want)
		}
	}
}

func TestArrivalsSnapshot(t *testing.T) {
	var a arrivals
	for i := range arrivalBlock + 5 {
		a.add(int64(i))
	}
	s := a.snapshot()
	for i := range arrivalBlock {
		a.add(int64(-i))
	}
	if s.n != arrivalBlock+5 || s.at(0) != 0 || s.at(s.n-1) != arrivalBlock+4 {
		t.Errorf("the snapshot changed: %d arrivals, last %d", s.n, s.at(s.n-1))
	}
}

func TestRateKeeper(t *testing.T) {
	k := newRateKeeper(10) // bears 11 in a second
	over := 0
	for i := range 20 {
		if k.over(int64(i)) {
			over++
		}
	}
	if over != 9 {
		t.Errorf("of 20 at once %d were over, want 9", over)
	}
	if k.over(int64(time.Second) + 20) {
		t.Error("over a second later")
	}
	even := newRateKeeper(10)
	for i := range 100 {
		if even.over(int64(i) * int64(100*time.Millisecond)) {
			t.Errorf("call %d of an even pace is over", i)
		}
	}
	for range 5 {
		if newRateKeeper(0).over(0) {
			t.Error("over any rate")
		}
	}
}
