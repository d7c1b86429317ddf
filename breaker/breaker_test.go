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
