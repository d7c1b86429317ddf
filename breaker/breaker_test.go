package breaker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usual are the settings of most tests: 2 s buckets, a lease of 3 s.
func usual() Settings {
	return Settings{Window: 20 * time.Second, FailureRatio: 0.5, MinCalls: 10, SlowCall: time.Second, OpenFor: 15 * time.Second, Timeout: 2 * time.Second}
}

func make1(t *testing.T, s Settings, opts ...Option) *Breaker {
	t.Helper()
	b, err := New("partner/midas", s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// begin is Allow where it has to let the call through.
func begin(t *testing.T, b *Breaker) *Call {
	t.Helper()
	c, err := b.Allow()
	if err != nil {
		t.Fatalf("Allow: %v, want a call (%+v)", err, b.Snapshot())
	}
	return c
}

func call(t *testing.T, b *Breaker, r Result, times int) {
	t.Helper()
	for range times {
		begin(t, b).Done(r)
	}
}

func refused(t *testing.T, b *Breaker) {
	t.Helper()
	if c, err := b.Allow(); !errors.Is(err, ErrOpen) || c != nil {
		t.Fatalf("Allow = %v, %v, want ErrOpen (%+v)", c, err, b.Snapshot())
	}
}

func stands(t *testing.T, b *Breaker, m Mode, s State) {
	t.Helper()
	if got := b.Snapshot(); got.Mode != m || got.State != s {
		t.Fatalf("it is %v and %v, want %v and %v", got.Mode, got.State, m, s)
	}
}

func counts(t *testing.T, b *Breaker, calls, failures int) {
	t.Helper()
	if got := b.Snapshot(); got.Calls != calls || got.Failures != failures {
		t.Fatalf("it counts %d failures of %d, want %d of %d", got.Failures, got.Calls, failures, calls)
	}
}

// trip opens a closed breaker with the usual settings.
func trip(t *testing.T, b *Breaker) {
	t.Helper()
	call(t, b, Failure, 10)
	stands(t, b, Automatic, Open)
}

// halfOpen opens it and lets the open period pass.
func halfOpen(t *testing.T, b *Breaker) {
	t.Helper()
	trip(t, b)
	time.Sleep(b.settings.OpenFor + 1)
	synctest.Wait()
	stands(t, b, Automatic, HalfOpen)
}

func TestNewRefusesNames(t *testing.T) {
	for _, name := range []string{"", "/", "partner/", "/midas", "a/b/c", "a b", "partner/\xff"} {
		if _, err := New(name, usual()); err == nil {
			t.Errorf("New(%q) gives no error", name)
		}
	}
	for _, name := range []string{"queue", "partner/midas", "partner/Midas_2.eu-west"} {
		if b, err := New(name, usual()); err != nil || b.Name() != name {
			t.Errorf("New(%q): %v", name, err)
		}
	}
}

func TestOpensAtTheRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 9) // too few to judge
		stands(t, b, Automatic, Closed)
		call(t, b, Success, 10) // 9 of 19
		call(t, b, Failure, 1)  // 10 of 20
		stands(t, b, Automatic, Open)
		counts(t, b, 20, 10)
		refused(t, b)
		if got, want := b.Snapshot().RetryAt, time.Now().Add(15*time.Second); !got.Equal(want) {
			t.Errorf("RetryAt = %v, want %v", got, want)
		}
		if _, err := b.Allow(); err.Error() != "partner/midas: breaker is open" {
			t.Errorf("Allow: %v", err)
		}
	})
}

func TestDoesNotOpenBelowTheRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual()
		s.FailureRatio, s.MinCalls = 0.07, 100
		b := make1(t, s)
		call(t, b, Success, 93)
		call(t, b, Failure, 6)
		call(t, b, Success, 1)
		stands(t, b, Automatic, Closed) // 6 of 100
		call(t, b, Failure, 1)          // 7 of 101
		stands(t, b, Automatic, Closed)
		b = make1(t, s)
		call(t, b, Success, 93)
		call(t, b, Failure, 7) // 7 of 100: at the ratio, not a rounding error below
		stands(t, b, Automatic, Open)
	})
}

// Calls under way are no results: a burst of them must neither reach MinCalls
// nor dilute the failures.
func TestCallsUnderWayDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		for range 1000 {
			defer begin(t, b).Done(Abandoned)
		}
		counts(t, b, 0, 0)
		call(t, b, Failure, 9)
		stands(t, b, Automatic, Closed)
		call(t, b, Failure, 1)
		stands(t, b, Automatic, Open)
	})
}

// A result counts where its call began: it leaves the window when that part does,
// and one that comes when that part has left does not count at all.
func TestResultsCountWhereTheirCallBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		late, tooLate := begin(t, b), begin(t, b)
		time.Sleep(11 * time.Second)
		late.Done(Failure)
		counts(t, b, 1, 1)
		time.Sleep(8 * time.Second) // 19 s after it began
		counts(t, b, 1, 1)
		time.Sleep(time.Second) // 9 s after it ended
		counts(t, b, 0, 0)
		tooLate.Done(Failure)
		counts(t, b, 0, 0)
	})
}

// A partner whose every call runs into its timeout is what a breaker is for, and
// the hardest to see: its results are old when they come. In the shortest window
// allowed they are still enough; in a window of little more than the timeout
// they would not be.
func TestSeesTimeouts(t *testing.T) {
	reaches := func(t *testing.T, window time.Duration) (results int) {
		synctest.Test(t, func(t *testing.T) {
			s := usual()
			s.Timeout, s.SlowCall, s.MinCalls = 8*time.Second, 0, 1_000_000
			s.Window = 32 * time.Second
			b := make1(t, s)
			b.settings.Window = window // New refuses a shorter one
			b.renew(Closed)
			var calls sync.WaitGroup
			for range 600 { // 10/s for a minute
				c := begin(t, b)
				calls.Go(func() {
					time.Sleep(8 * time.Second)
					c.Done(Failure)
				})
				time.Sleep(100 * time.Millisecond)
				results = max(results, b.Snapshot().Failures)
			}
			calls.Wait()
		})
		return results
	}
	if got, least := reaches(t, 32*time.Second), 200; got < least {
		t.Errorf("a window of 4 timeouts holds %d failures at 10/s, want at least %d", got, least)
	}
	if got, most := reaches(t, 10*time.Second), 40; got > most {
		t.Errorf("a window of 1.25 timeouts holds %d failures at 10/s, want at most %d: is the least of 4 needed?", got, most)
	}
}

func TestSlowSuccessIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		for range 10 {
			c := begin(t, b)
			time.Sleep(time.Second)
			c.Done(Success)
		}
		counts(t, b, 10, 0)
		c := begin(t, b)
		time.Sleep(time.Second + 1)
		c.Done(Success)
		counts(t, b, 11, 1)
	})
}

func TestAbandonedCountsAsNeither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 9)
		call(t, b, Abandoned, 100)
		counts(t, b, 9, 9)
		stands(t, b, Automatic, Closed)
		call(t, b, Failure, 1)
		stands(t, b, Automatic, Open)
	})
}

func TestDoneCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		c := begin(t, b)
		c.Done(Success)
		c.Done(Failure)
		counts(t, b, 1, 0)
		func() {
			defer func() { _ = recover() }()
			var result Result
			c := begin(t, b)
			defer func() { c.Done(result) }()
			panic("the call panics")
		}()
		counts(t, b, 2, 1)
	})
}

func TestHalfOpenHasOneProbe(t *testing.T) {
	for result, want := range map[Result]State{Success: Closed, Failure: Open, Abandoned: HalfOpen} {
		synctest.Test(t, func(t *testing.T) {
			b := make1(t, usual())
			before := begin(t, b)
			halfOpen(t, b)
			probe := begin(t, b)
			refused(t, b)
			before.Done(Success) // from before it opened: says nothing now
			refused(t, b)
			probe.Done(result)
			stands(t, b, Automatic, want)
			switch want {
			case Closed:
				counts(t, b, 0, 0)
				call(t, b, Failure, 9)
				stands(t, b, Automatic, Closed)
			case Open:
				counts(t, b, 1, 1)
				refused(t, b)
				time.Sleep(15*time.Second + 1)
				call(t, b, Success, 1)
				stands(t, b, Automatic, Closed)
			case HalfOpen:
				counts(t, b, 10, 10)
				begin(t, b)
				refused(t, b)
			}
		})
	}
}

func TestSlowProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		probe := begin(t, b)
		time.Sleep(1500 * time.Millisecond)
		probe.Done(Success)
		stands(t, b, Automatic, Open)
	})
}

func TestLostDoneDoesNotWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		lost := begin(t, b)
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		stands(t, b, Automatic, HalfOpen)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		stands(t, b, Automatic, Open)
		time.Sleep(15*time.Second + 1)
		synctest.Wait()
		stands(t, b, Automatic, HalfOpen)
		probe := begin(t, b)
		lost.Done(Success) // found after all
		stands(t, b, Automatic, HalfOpen)
		refused(t, b)
		probe.Done(Success)
		stands(t, b, Automatic, Closed)
	})
}

// A timer may fire just before it is stopped and come late to the lock.
func TestLateAlarmDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		begin(t, b).Done(Abandoned)
		late := b.alarm - 1 // the first probe's
		probe := begin(t, b)
		b.tick(late)
		stands(t, b, Automatic, HalfOpen)
		probe.Done(Success)
		stands(t, b, Automatic, Closed)
	})
}

func TestHeldOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 3)
		under := begin(t, b)
		b.Hold(HeldOpen)
		stands(t, b, HeldOpen, Open)
		refused(t, b)
		under.Done(Failure)
		time.Sleep(time.Second)
		refused(t, b)
		b.Hold(Automatic)
		stands(t, b, Automatic, Closed)
		counts(t, b, 4, 4)
		call(t, b, Success, 1)
	})
}

// Held open is a lid: beneath it the automatic breaker keeps its own time.
func TestHeldOpenKeepsWhatIsBeneath(t *testing.T) {
	for held, want := range map[time.Duration]State{14 * time.Second: Open, 16 * time.Second: HalfOpen} {
		synctest.Test(t, func(t *testing.T) {
			told := 0
			b := make1(t, usual(), OnChange(func(Snapshot) { told++ }))
			trip(t, b)
			retry := b.Snapshot().RetryAt
			b.Hold(HeldOpen)
			since := b.Snapshot().Since
			if got := b.Snapshot().RetryAt; !got.IsZero() {
				t.Errorf("held open it says RetryAt %v, want none", got)
			}
			time.Sleep(held)
			synctest.Wait()
			refused(t, b)
			if got := b.Snapshot().Since; told != 2 || !got.Equal(since) {
				t.Errorf("OnChange was told %d times and Since is %v, want 2 and %v: what happens beneath is no change", told, got, since)
			}
			b.Hold(Automatic)
			stands(t, b, Automatic, want)
			if want == Open {
				if got := b.Snapshot().RetryAt; !got.Equal(retry) {
					t.Errorf("RetryAt = %v, want %v as before the hold", got, retry)
				}
				return
			}
			call(t, b, Success, 1)
			stands(t, b, Automatic, Closed)
		})
	}
}

func TestHeldClosed(t *testing.T) {
	for name, before := range map[string]func(*testing.T, *Breaker){
		"closed":    func(*testing.T, *Breaker) {},
		"open":      trip,
		"half-open": halfOpen,
		"probe out": func(t *testing.T, b *Breaker) { halfOpen(t, b); begin(t, b) },
		"held open": func(_ *testing.T, b *Breaker) { b.Hold(HeldOpen) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := make1(t, usual())
				before(t, b)
				b.Hold(HeldClosed)
				stands(t, b, HeldClosed, Closed)
				call(t, b, Failure, 100)
				call(t, b, Success, 50)
				time.Sleep(4 * time.Second) // past any lease
				synctest.Wait()
				stands(t, b, HeldClosed, Closed)
				counts(t, b, 150, 100) // a person sees what the calls bring
				under := begin(t, b)
				b.Hold(Automatic)
				stands(t, b, Automatic, Closed)
				counts(t, b, 0, 0)
				under.Done(Failure) // was forced through, too
				call(t, b, Failure, 9)
				stands(t, b, Automatic, Closed)
				call(t, b, Failure, 1)
				stands(t, b, Automatic, Open)
			})
		})
	}
}

func TestHoldAgainChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		b := make1(t, usual(), OnChange(func(Snapshot) { told++ }))
		call(t, b, Failure, 5)
		b.Hold(Automatic)
		b.Hold(HeldClosed)
		call(t, b, Failure, 5)
		b.Hold(HeldClosed)
		counts(t, b, 10, 10)
		if told != 1 {
			t.Errorf("OnChange was called %d times, want 1", told)
		}
	})
}

func TestOnChangeTellsInOrderOutsideTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		start := time.Now()
		var b *Breaker
		b = make1(t, usual(), OnChange(func(s Snapshot) {
			got = append(got, fmt.Sprintf("%v %v %v %d/%d", s.Since.Sub(start).Round(time.Second), s.Mode, s.State, s.Failures, s.Calls))
			if s.Mode == HeldOpen {
				b.Hold(HeldClosed) // uses the breaker, and its change is told after this one
			}
			b.Snapshot()
		}))
		call(t, b, Success, 2)
		call(t, b, Failure, 8)
		time.Sleep(16 * time.Second)
		call(t, b, Failure, 1)
		time.Sleep(16 * time.Second)
		call(t, b, Success, 1)
		b.Hold(HeldOpen)
		b.Hold(Automatic)
		want := []string{
			"0s automatic open 8/10", "15s automatic half_open 8/10", "16s automatic open 1/1",
			"31s automatic half_open 1/1", "32s automatic closed 0/0",
			"32s held_open open 0/0", "32s held_closed closed 0/0", "32s automatic closed 0/0",
		}
		if !slices.Equal(got, want) {
			t.Errorf("OnChange was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestOnChangeThatPanicsIsToldAgain(t *testing.T) {
	told := 0
	b := make1(t, usual(), OnChange(func(Snapshot) {
		if told++; told == 1 {
			panic("once")
		}
	}))
	func() {
		defer func() { _ = recover() }()
		b.Hold(HeldOpen)
	}()
	b.Hold(Automatic)
	if told != 2 {
		t.Errorf("OnChange was called %d times, want 2", told)
	}
}

func TestReconfigure(t *testing.T) {
	other := usual()
	other.Window, other.OpenFor = 40*time.Second, 5*time.Second
	for name, test := range map[string]struct {
		before func(*testing.T, *Breaker)
		mode   Mode
		state  State
	}{
		"closed":      {func(t *testing.T, b *Breaker) { call(t, b, Failure, 5) }, Automatic, Closed},
		"open":        {trip, Automatic, Open},
		"half-open":   {halfOpen, Automatic, HalfOpen},
		"held open":   {func(_ *testing.T, b *Breaker) { b.Hold(HeldOpen) }, HeldOpen, Open},
		"held closed": {func(_ *testing.T, b *Breaker) { b.Hold(HeldClosed) }, HeldClosed, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := make1(t, usual())
				test.before(t, b)
				if err := b.Reconfigure(other); err != nil {
					t.Fatal(err)
				}
				stands(t, b, test.mode, test.state)
				if test.mode != Automatic {
					b.Hold(Automatic)
				}
				switch test.state {
				case Open:
					if test.mode == Automatic {
						time.Sleep(5*time.Second + 1) // the new OpenFor
						synctest.Wait()
						stands(t, b, Automatic, HalfOpen)
						call(t, b, Success, 1)
					}
				case HalfOpen:
					call(t, b, Failure, 1)
					stands(t, b, Automatic, Open)
					time.Sleep(5*time.Second + 1)
					call(t, b, Success, 1)
				}
				stands(t, b, Automatic, Closed)
				call(t, b, Failure, 1)
				time.Sleep(30 * time.Second) // in the new window, not in the old
				counts(t, b, 1, 1)
			})
		})
	}
}

func TestReconfigureKeepsTheWindowWhereItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 6)
		s := usual()
		s.MinCalls, s.Timeout = 7, time.Second
		if err := b.Reconfigure(s); err != nil {
			t.Fatal(err)
		}
		counts(t, b, 6, 6)
		call(t, b, Failure, 1)
		stands(t, b, Automatic, Open)
		time.Sleep(15*time.Second + 1)
		begin(t, b)
		time.Sleep(2 * time.Second) // the lease of the new timeout
		synctest.Wait()
		stands(t, b, Automatic, Open)
	})
}
