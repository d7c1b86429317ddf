package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"manna/gift"
)

// door counts starts as a partner does: by its own clock, with no idea of how
// they are paced.
type door struct {
	opened time.Time
	at     []time.Duration
	most   []int // what the second that ends in this start may hold
}

func newDoor() *door { return &door{opened: time.Now()} }

func (d *door) call(most int) {
	d.at = append(d.at, time.Since(d.opened))
	d.most = append(d.most, most)
}

// overrun describes the first sliding second that held too many starts.
func (d *door) overrun() error {
	first := 0
	for last, at := range d.at {
		for at-d.at[first] >= time.Second {
			first++
		}
		if n := last - first + 1; n > d.most[last] {
			return fmt.Errorf("the second up to %v holds %d starts, want at most %d", at, n, d.most[last])
		}
	}
	return nil
}

// peak is the most starts that any sliding second held.
func (d *door) peak() int {
	peak, first := 0, 0
	for last, at := range d.at {
		for at-d.at[first] >= time.Second {
			first++
		}
		peak = max(peak, last-first+1)
	}
	return peak
}

// pull makes n starts, or as many as begin within d, on timers that wake late()
// too late. It stands in for Wait, whose timers are exact under synctest.
func pull(p *Pacer, to *door, n int, d time.Duration, late func() time.Duration) {
	for end := time.Now().Add(d); n > 0 && time.Now().Before(end); {
		if wait, _ := p.start(); wait > 0 {
			time.Sleep(wait + late())
			continue
		}
		to.call(perSecond(p.Rate()))
		n--
	}
}

// unringed is a pacer with nothing but its token bucket.
func unringed(r gift.Rate) *Pacer {
	p := NewPacer(r)
	p.starts.allow(maxRate)
	return p
}

func TestPacerNeverOverrunsASecond(t *testing.T) {
	rates := []gift.Rate{0.3, 0.999, 1, 1.5, 2, 2.5, 10, 29.9, 100, 150, 1000, 3000}
	type step struct {
		rate  gift.Rate // 0: as it is
		idle  time.Duration
		calls int           // starts at most,
		most  time.Duration // and how long they may take
		late  time.Duration // how late a timer wakes at most
	}
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			rate:  rapid.SampledFrom(append([]gift.Rate{0, 0, 0}, rates...)).Draw(t, "rate"),
			idle:  rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 300 * time.Millisecond, 3 * time.Second}).Draw(t, "idle"),
			calls: rapid.IntRange(0, 4000).Draw(t, "calls"),
			most:  rapid.SampledFrom([]time.Duration{0, 20 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second}).Draw(t, "most"),
			late:  time.Duration(rapid.Int64Range(0, int64(40*time.Millisecond)).Draw(t, "late")),
		}
	}), 1, 12)
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.SampledFrom(rates).Draw(rt, "first")
		plan := steps.Draw(rt, "plan")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		var err error
		synctest.Test(t, func(t *testing.T) {
			p, to := NewPacer(first), newDoor()
			for _, s := range plan {
				if s.rate > 0 {
					p.SetRate(s.rate)
				}
				time.Sleep(s.idle)
				pull(p, to, s.calls, s.most, func() time.Duration {
					return time.Duration(random.Int64N(int64(s.late)+1) * random.Int64N(2))
				})
			}
			err = to.overrun()
			if got, want := p.Used(), uint64(len(to.at)); got != want {
				err = errors.Join(err, fmt.Errorf("Used() = %d, want %d", got, want))
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// The token bucket alone lets its burst in on top of the rate: this is what the
// ring is for, and what the property above has to be able to see.
func TestPacerBucketAloneOverruns(t *testing.T) {
	for name, test := range map[string]struct {
		make func(gift.Rate) *Pacer
		over bool
	}{"with the ring": {NewPacer, false}, "without": {unringed, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, to := test.make(1000), newDoor()
				time.Sleep(time.Second)
				pull(p, to, 2000, time.Minute, func() time.Duration { return 0 })
				if err := to.overrun(); (err != nil) != test.over {
					t.Errorf("overrun: %v, want one: %v", err, test.over)
				}
			})
		})
	}
}

// Late timers as they were measured on Linux: a sleep of less than a millisecond
// takes one, a longer one is up to 0.2 ms late, and now and then one is much
// later.
func TestPacerUsesTheRateDespiteLateTimers(t *testing.T) {
	const backlog = 30 * time.Second
	for _, r := range []gift.Rate{1, 10, 100, 150, 199, 3000, 20000} {
		t.Run(r.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, uint64(r)))
				late := func() time.Duration {
					if random.IntN(1000) == 0 {
						return 4 * time.Millisecond
					}
					return 50*time.Microsecond + time.Duration(random.Int64N(int64(time.Millisecond)))
				}
				p, to := NewPacer(r), newDoor()
				pull(p, to, 1<<30, backlog, late)
				if err := to.overrun(); err != nil {
					t.Error(err)
				}
				// One start may be under way at the end, which is much at 1/s.
				if got, want := float64(len(to.at)+1), 0.99*float64(r)*backlog.Seconds(); got < want {
					t.Errorf("%v starts in %v, want at least %v", got, backlog, want)
				}
			})
		})
	}
}

func TestPacerPacesEvenly(t *testing.T) {
	for _, test := range []struct {
		rate gift.Rate
		gap  time.Duration
	}{
		{50.0 / 3600, 72 * time.Second},
		{0.5, 2 * time.Second},
		{1, 1002 * time.Millisecond},
		{1.5, 1002 * time.Millisecond}, // a second start would make it 2/s
		{2.5, 501 * time.Millisecond},
		{10, 100200 * time.Microsecond},
		{3000, 334 * time.Microsecond},
	} {
		t.Run(test.rate.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPacer(test.rate)
				// The first start, too, comes after a gap: the bucket begins empty.
				for i, last := 0, time.Now(); i < 100; i++ {
					if err := p.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					gap := time.Since(last)
					if off := (gap - test.gap).Abs(); off > test.gap/1000 {
						t.Fatalf("start %d came after %v, want %v", i, gap, test.gap)
					}
					last = time.Now()
				}
			})
		})
	}
}

func TestPacerLetsMissedStartsGo(t *testing.T) {
	for name, before := range map[string]func(*testing.T, gift.Rate) *Pacer{
		"new":      func(_ *testing.T, r gift.Rate) *Pacer { return NewPacer(r) },
		"rate set": func(_ *testing.T, r gift.Rate) *Pacer { p := NewPacer(700); p.SetRate(r); return p },
		"given up on": func(t *testing.T, r gift.Rate) *Pacer {
			p := NewPacer(r)
			ctx, cancel := context.WithTimeout(t.Context(), r.Interval()/2)
			defer cancel()
			if err := p.Wait(ctx); err == nil {
				t.Error("Wait came back too early")
			}
			return p
		},
	} {
		for rate, want := range map[gift.Rate]int{3000: 30, 10: 1, 0.1: 1} {
			t.Run(name+" "+rate.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := before(t, rate)
					time.Sleep(time.Hour)
					got, begin := 0, time.Now()
					for p.Wait(t.Context()) == nil && time.Since(begin) == 0 {
						got++
					}
					if got != want {
						t.Errorf("%d starts at once after an hour's pause, want %d", got, want)
					}
				})
			})
		}
	}
}

func TestPacerWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(0.1)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		var both sync.WaitGroup
		for range 2 { // one waits for its start, the other for its turn
			both.Go(func() {
				if got := p.Wait(ctx); !errors.Is(got, context.DeadlineExceeded) {
					t.Errorf("Wait = %v, want %v", got, context.DeadlineExceeded)
				}
			})
		}
		both.Wait()
		if got := p.Wait(ctx); !errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("Wait on an ended context = %v, want %v", got, context.DeadlineExceeded)
		}
		if got, want := time.Since(begin), 4*time.Second; got != want {
			t.Errorf("they waited %v, want %v", got, want)
		}
		if got := p.Used(); got != 0 {
			t.Errorf("Used() = %d, want 0", got)
		}
		// What they gave up is there for the next.
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin).Round(time.Microsecond), 10*time.Second; got != want {
			t.Errorf("the first start came after %v, want %v", got, want)
		}
	})
}

func TestPacerSetRateWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1.0 / 3600)
		begin := time.Now()
		done := make(chan error)
		for range 2 {
			go func() { done <- p.Wait(t.Context()) }()
		}
		time.Sleep(time.Minute)
		p.SetRate(100)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if got, want := time.Since(begin), time.Minute+21*time.Millisecond; got > want {
			t.Errorf("the starts came after %v, want at most %v", got, want)
		}
		if got, want := p.Rate(), gift.Rate(100); got != want {
			t.Errorf("Rate() = %v, want %v", got, want)
		}
	})
}

func TestPacerLoweredRateCountsWhatWasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := NewPacer(1000), newDoor()
		pull(p, to, 500, time.Minute, func() time.Duration { return 0 })
		tenthLast := to.at[len(to.at)-10]
		p.SetRate(10)
		pull(p, to, 100, time.Minute, func() time.Duration { return 0 })
		if err := to.overrun(); err != nil {
			t.Error(err)
		}
		if got, want := to.at[500]-tenthLast, time.Second; got != want {
			t.Errorf("the first start at 10/s came %v after the tenth last before it, want %v", got, want)
		}
	})
}

func TestPacerRaisedRateCountsWhatWasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := NewPacer(10), newDoor()
		pull(p, to, 35, time.Minute, func() time.Duration { return 0 })
		for _, r := range []gift.Rate{1000, 20, 3000} {
			p.SetRate(r)
			pull(p, to, int(2.5*r), time.Minute, func() time.Duration { return 0 })
		}
		if err := to.overrun(); err != nil {
			t.Error(err)
		}
	})
}

// Lowered for a moment only, as by two reloads: what was started before still
// counts.
func TestPacerRateLoweredAndRaisedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := NewPacer(1000), newDoor()
		time.Sleep(time.Second)
		for range 5 {
			pull(p, to, 3000, 300*time.Millisecond, func() time.Duration { return 0 })
			p.SetRate(1)
			p.SetRate(1000)
		}
		if err := to.overrun(); err != nil {
			t.Error(err)
		}
	})
}

func TestPacerManyCallers(t *testing.T) {
	const callers, each = 50, 200
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1000)
		var mu sync.Mutex
		to := newDoor()
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range each {
					if err := p.Wait(t.Context()); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					to.call(1000)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if err := to.overrun(); err != nil {
			t.Error(err)
		}
		if got, want := p.Used(), uint64(callers*each); got != want {
			t.Errorf("Used() = %d, want %d", got, want)
		}
		if got, most := time.Since(to.opened), 10100*time.Millisecond; got > most {
			t.Errorf("%d starts at 1000/s took %v, want at most %v", callers*each, got, most)
		}
	})
}

func TestRingKeepsTheLastStarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var kept []time.Duration // as many as the largest number allowed, oldest first
		most, size := 0, 0
		allow := func(n int) {
			r.allow(n)
			most, size = n, max(size, n)
		}
		allow(rapid.IntRange(1, 5).Draw(t, "first"))
		for at := range time.Duration(rapid.IntRange(0, 100).Draw(t, "starts")) {
			if n := rapid.IntRange(-20, 8).Draw(t, "allow"); n > 0 {
				allow(n)
			}
			r.add(at)
			kept = append(kept, at)
			kept = kept[max(0, len(kept)-size):]
			want := never + time.Second
			if len(kept) >= most {
				want = kept[len(kept)-most] + time.Second
			}
			if got := r.free(); got != want {
				t.Fatalf("after the start at %d the next is free at %v, want %v", at, got, want)
			}
		}
	})
}

func TestPacerRefusesWhatIsNoRate(t *testing.T) {
	for _, r := range []gift.Rate{0, -1, maxRate + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewPacer(%v) did not panic", float64(r))
				}
			}()
			NewPacer(r)
		}()
	}
}

func TestPerSecond(t *testing.T) {
	for r, want := range map[gift.Rate]int{0.01: 1, 1: 1, 1.999: 1, 2: 2, 99.5: 99, 29.999: 29, 3000: 3000, maxRate: maxRate} {
		if got := perSecond(r); got != want {
			t.Errorf("perSecond(%v) = %d, want %d", float64(r), got, want)
		}
	}
	share := 0.29
	if got, want := perSecond(gift.Rate(share*100)), 29; got != want {
		t.Errorf("perSecond(0.29 × 100) = %d, want %d", got, want)
	}
}

// BenchmarkPacer shows how much of the rate a backlog uses on real timers and the
// fullest second by the callers' clock, both in percent of the rate, and the
// longest gap between two starts beyond the even one: on a busy machine the
// process gets no processor for a while, and what it misses then is let go. Use
// -benchtime=1x.
func BenchmarkPacer(b *testing.B) {
	const backlog = 6 * time.Second
	for _, callers := range []int{1, 200} {
		for _, r := range []gift.Rate{10, 100, 3000, 20000} {
			b.Run(fmt.Sprintf("callers=%d/rate=%v", callers, float64(r)), func(b *testing.B) {
				for range b.N {
					ctx, cancel := context.WithTimeout(b.Context(), backlog)
					p, to := NewPacer(r), newDoor()
					ends := make([][]time.Duration, callers)
					var all sync.WaitGroup
					for i := range ends {
						all.Go(func() {
							for p.Wait(ctx) == nil {
								ends[i] = append(ends[i], time.Since(to.opened))
							}
						})
					}
					all.Wait()
					cancel()
					to.at = slices.Concat(ends...)
					slices.Sort(to.at)
					took, gap := to.at[len(to.at)-1]-to.at[0], time.Duration(0)
					for i := 1; i < len(to.at); i++ {
						gap = max(gap, to.at[i]-to.at[i-1])
					}
					b.ReportMetric(100*float64(len(to.at)-1)/(float64(r)*took.Seconds()), "%used")
					b.ReportMetric((gap-r.Interval()).Seconds()*1000, "ms/gap")
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(100*float64(to.peak())/float64(r), "%peak")
				}
			})
		}
	}
}

func BenchmarkPacerStart(b *testing.B) {
	p := NewPacer(maxRate)
	for b.Loop() {
		p.start()
	}
}
