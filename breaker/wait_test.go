package breaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// waiting starts n goroutines in Wait and tells when each has come back, counted
// from now.
func waiting(t *testing.T, b *Breaker, n int) <-chan time.Duration {
	begin := time.Now()
	back := make(chan time.Duration, n)
	for range n {
		go func() {
			if err := b.Wait(t.Context()); err == nil {
				back <- time.Since(begin)
			}
		}()
	}
	synctest.Wait()
	return back
}

// returned is how many have come back since it was last asked.
func returned(back <-chan time.Duration) (n int) {
	synctest.Wait()
	for len(back) > 0 {
		<-back
		n++
	}
	return n
}

func wantReturned(t *testing.T, back <-chan time.Duration, want int) {
	t.Helper()
	if got := returned(back); got != want {
		t.Fatalf("%d came back from Wait, want %d", got, want)
	}
}

func TestWaitPassesWhereAllowDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		wantReturned(t, waiting(t, b, 3), 3)
		b.Hold(HeldClosed)
		wantReturned(t, waiting(t, b, 3), 3)
	})
}

func TestWaitEndsWithTheOpenPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		trip(t, b)
		back := waiting(t, b, 1)
		if got, want := <-back, 15*time.Second+1; got != want {
			t.Errorf("Wait came back after %v, want %v", got, want)
		}
		call(t, b, Success, 1)
	})
}

func TestWaitEndsWithAModeChange(t *testing.T) {
	for _, m := range []Mode{Automatic, HeldClosed} {
		synctest.Test(t, func(t *testing.T) {
			b := make1(t, usual())
			b.Hold(HeldOpen)
			back := waiting(t, b, 3)
			time.Sleep(24 * time.Hour)
			wantReturned(t, back, 0)
			b.Hold(m)
			wantReturned(t, back, 3)
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		b.Hold(HeldOpen)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if got := b.Wait(ctx); !errors.Is(got, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("Wait = %v after %v, want %v after 1s", got, time.Since(begin), context.DeadlineExceeded)
		}
		b.Hold(HeldClosed)
		if got := b.Wait(ctx); !errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("Wait on an ended context = %v, want %v", got, context.DeadlineExceeded)
		}
	})
}

func TestWaitSendsOneProbe(t *testing.T) {
	for result, want := range map[Result]int{Success: 9, Failure: 0, Abandoned: 1} {
		synctest.Test(t, func(t *testing.T) {
			b := make1(t, usual())
			trip(t, b)
			back := waiting(t, b, 10)
			time.Sleep(15*time.Second + 1)
			wantReturned(t, back, 1)
			probe := begin(t, b)
			time.Sleep(time.Second)
			wantReturned(t, back, 0)
			probe.Done(result)
			wantReturned(t, back, want)
			b.Hold(HeldClosed)
			wantReturned(t, back, 9-want)
		})
	}
}

func TestWaitTurnThatIsNotUsedPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		trip(t, b)
		back := waiting(t, b, 3)
		time.Sleep(15*time.Second + 1)
		wantReturned(t, back, 1)
		for range 2 {
			time.Sleep(3*time.Second - 1)
			wantReturned(t, back, 0)
			time.Sleep(time.Nanosecond)
			wantReturned(t, back, 1)
		}
	})
}

// A hold takes the turn away with the chance to use it.
func TestWaitTurnEndsWithAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		trip(t, b)
		back := waiting(t, b, 3)
		time.Sleep(15*time.Second + 1)
		wantReturned(t, back, 1)
		b.Hold(HeldOpen)
		refused(t, b)
		b.Hold(Automatic)
		wantReturned(t, back, 1)
		b.Hold(HeldClosed)
		wantReturned(t, back, 1)
	})
}

func TestWaitOutlastsALostProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		begin(t, b)
		back := waiting(t, b, 1)
		if got, want := <-back, 3*time.Second+15*time.Second+1; got != want {
			t.Errorf("Wait came back after %v, want %v", got, want)
		}
	})
}

// Whatever has been done to a breaker, it comes back: released, it closes within
// a lease, an open period and a probe.
func TestNothingWedges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type op struct{ what, arg int }
		plan := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			return op{rapid.IntRange(0, 7).Draw(t, "what"), rapid.IntRange(0, 1<<20).Draw(t, "arg")}
		}), 0, 60).Draw(rt, "plan")
		var err error
		synctest.Test(t, func(t *testing.T) { err = abuse(t, plan, func(o op) (int, int) { return o.what, o.arg }) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func abuse[O any](t *testing.T, plan []O, read func(O) (what, arg int)) error {
	s := usual()
	s.MinCalls = 2
	b := make1(t, s)
	var out []*Call
	for i, o := range plan {
		probing := b.Snapshot().State == HalfOpen
		passed := 0
		switch what, arg := read(o); what {
		case 0, 1: // several try; a half-open breaker lets one through at most
			for range 3 {
				if c, err := b.Allow(); err == nil {
					out = append(out, c)
					passed++
				}
			}
		case 2, 3:
			if len(out) > 0 {
				out[arg%len(out)].Done(Result(arg % 3))
			}
		case 4:
			time.Sleep(time.Duration(arg) * 20 * time.Microsecond)
		case 5:
			b.Hold(Mode(arg % 3))
		case 6:
			r := s
			r.OpenFor = time.Duration(1+arg%15) * time.Second
			if err := b.Reconfigure(r); err != nil {
				return err
			}
		case 7:
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(arg)*20*time.Microsecond)
			_ = b.Wait(ctx) // and the turn is not used
			cancel()
		}
		synctest.Wait()
		if probing && passed > 1 {
			return fmt.Errorf("step %d: half-open, %d calls went through", i, passed)
		}
		if snap := b.Snapshot(); snap.State == Open && snap.Mode == Automatic && time.Until(snap.RetryAt) < -1 {
			return fmt.Errorf("step %d: still open %v after RetryAt", i, -time.Until(snap.RetryAt))
		}
	}
	b.Hold(Automatic)
	begun := time.Now()
	for b.Snapshot().State != Closed {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := b.Wait(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("wedged: %+v", b.Snapshot())
		}
		if c, err := b.Allow(); err == nil {
			c.Done(Success)
		}
	}
	if took, most := time.Since(begun), s.lease()+s.OpenFor+time.Second; took > most {
		return fmt.Errorf("closed %v after its release, want at most %v", took, most)
	}
	return nil
}

// Everything at once, for the race detector; and whatever happens, no second
// probe is out.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual()
		s.MinCalls, s.OpenFor, s.Timeout, s.SlowCall = 1, 10*time.Millisecond, 100*time.Millisecond, 0
		var told atomic.Int64
		b := make1(t, s, OnChange(func(Snapshot) { told.Add(1) }))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for n := i; b.Wait(ctx) == nil; n++ {
					c, err := b.Allow()
					if err != nil {
						continue
					}
					time.Sleep(time.Duration(1+n%7) * time.Millisecond)
					if n%11 > 0 {
						c.Done(Result(n % 3))
					}
				}
			})
		}
		var set Set
		if err := set.Add(b); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(37 * time.Millisecond)
				b.Hold(Mode(n % 3))
				r := s
				r.OpenFor += time.Duration(n%5) * time.Millisecond
				if err := b.Reconfigure(r); err != nil {
					t.Error(err)
				}
				gather(t, &set)
			}
		})
		all.Wait()
		if told.Load() == 0 {
			t.Error("nothing changed")
		}
	})
}

// Changes made while OnChange runs are told after it, by the one who runs it.
func TestOnChangeIsToldOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside, most int
		var modes []Mode
		b := make1(t, usual(), OnChange(func(s Snapshot) {
			inside++
			most = max(most, inside)
			modes = append(modes, s.Mode)
			time.Sleep(time.Second)
			inside--
		}))
		var all sync.WaitGroup
		for _, m := range []Mode{HeldOpen, HeldClosed, Automatic, HeldOpen} {
			all.Go(func() { b.Hold(m) })
			synctest.Wait()
		}
		all.Wait()
		if want := []Mode{HeldOpen, HeldClosed, Automatic, HeldOpen}; most != 1 || !slices.Equal(modes, want) {
			t.Errorf("OnChange was told %v, up to %d at a time, want %v one at a time", modes, most, want)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	br, err := New("queue", usual())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := br.Allow()
		if err != nil {
			b.Fatal(err)
		}
		c.Done(Success)
	}
}

func BenchmarkRefusal(b *testing.B) {
	br, err := New("queue", usual())
	if err != nil {
		b.Fatal(err)
	}
	br.Hold(HeldOpen)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.Allow(); err == nil {
			b.Fatal("it let a call through")
		}
	}
}
