package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// One signal that is delivered twice is one; who sends another later means it.
func TestASecondSignalIsALaterOne(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		at      []time.Duration // when signals come
		aborted time.Duration   // 0: never
	}{
		{"one", []time.Duration{5 * ms}, 0},
		{"twice at once", []time.Duration{5 * ms, 5 * ms}, 0},
		{"repeats within a second", []time.Duration{0, 1 * ms, 300 * ms, 999 * ms}, 0},
		{"a second later", []time.Duration{0, 1000 * ms}, 1000 * ms},
		{"measured from the first", []time.Duration{0, 700 * ms, 1400 * ms}, 1400 * ms},
		{"much later", []time.Duration{200 * ms, time.Hour}, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				signals := make(chan os.Signal, 1)
				aborted := time.Duration(0)
				ctx, stop := interruptible(t.Context(), signals, func() { aborted = time.Since(began) })
				for _, at := range c.at {
					time.Sleep(time.Until(began.Add(at)))
					signals <- syscall.SIGTERM
					synctest.Wait()
					if ctx.Err() == nil {
						t.Fatalf("the signal at %v did not end the context", at)
					}
				}
				stop()
				if aborted != c.aborted {
					t.Errorf("signals at %v: aborted at %v, want %v", c.at, aborted, c.aborted)
				}
			})
		})
	}
}

func TestWithoutASignalNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := interruptible(t.Context(), make(chan os.Signal), func() { t.Error("aborted") })
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Error("the context ended by itself")
		}
		stop()
		if ctx.Err() == nil {
			t.Error("stop did not end the context")
		}
	})
}
