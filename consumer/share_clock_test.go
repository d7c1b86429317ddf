package consumer

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"manna/consumer/quota"
)

// A clock that is an hour off must not stop the others for an hour, nor make two
// nodes call at once.
func TestSharedRateWithAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 1000, 0.7, 7)
		defer l.stop()
		good := l.node(0)
		good.backlog(true)
		time.Sleep(4 * time.Second)
		wrong := l.node(time.Hour)
		wrong.backlog(true)
		time.Sleep(10 * time.Second)
		if s := good.snapshot(); s.Mode != modePaused || !strings.Contains(s.Problem, "clock") {
			t.Errorf("the lane with the good clock is %s, %q: want it paused and the clock named", s.Mode, s.Problem)
		}
		wrong.cancel()
		time.Sleep(4 * time.Second)
		time.Sleep(10 * time.Second)
		l.wantUsed("alone again", 10*time.Second)
		l.wantPeak(0, 0)
	})
}

// TestShareGoesByTheQuotasClock, also when that is set back or ahead while slots are held.
func TestShareGoesByTheQuotasClock(t *testing.T) {
	for _, jump := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var centre quota.Memory
			var ahead atomic.Int64
			ahead.Store(int64(5 * time.Second))
			q := &Quota{Centre: &centre, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}
			s := newShare("p", q, 100, time.Now, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() { s.run(ctx) })
			var started atomic.Int64
			work.Go(func() {
				for s.Wait(ctx) == nil {
					started.Add(1)
				}
			})
			time.Sleep(10 * time.Second)
			r, _, err := centre.Load(ctx, "p")
			if off := time.Until(time.Unix(0, r.Next)); err != nil || off < 4*time.Second {
				t.Errorf("slots are leased %v ahead, %v", off, err)
			}
			ahead.Add(int64(jump))
			time.Sleep(quota.Pause + quota.Skew + 2*time.Second) // until the register is taken over
			before := started.Load()
			time.Sleep(10 * time.Second)
			if n := started.Load() - before; n < 950 || n > 1000 {
				t.Errorf("%d starts in ten seconds after the clock jumped by %v", n, jump)
			}
			cancel()
		})
	}
}
