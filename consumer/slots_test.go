package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Whoever waits for slots gets all that a resize makes room for.
func TestResizedSlotsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSlots(2)
		var taken atomic.Int32
		var waiting sync.WaitGroup
		for range 10 {
			waiting.Go(func() {
				if s.acquire(ctx) == nil {
					taken.Add(1)
				}
			})
		}
		for _, step := range []struct {
			do   func()
			want int32
		}{
			{func() {}, 2},
			{func() { s.resize(7) }, 7},
			{s.release, 8},
			{func() { s.resize(1) }, 8},
			{s.release, 8},
			{cancel, 8},
		} {
			step.do()
			synctest.Wait()
			if got := taken.Load(); got != step.want {
				t.Fatalf("%d were taken, want %d", got, step.want)
			}
		}
		waiting.Wait()
		if s.used != 6 {
			t.Errorf("%d are used, want those that were not released", s.used)
		}
	})
}
