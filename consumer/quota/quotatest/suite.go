// Package quotatest is the suite that every centre of a quota passes.
package quotatest

import (
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"manna/consumer/quota"
)

// Run puts a centre through the suite. It uses partners of its own, and calls open
// for each node's view of one centre.
func Run(t *testing.T, open func(t *testing.T) quota.Centre) {
	t.Run("a register is made by one", func(t *testing.T) {
		a, b, partner := open(t), open(t), rand.Text()
		if _, v, err := a.Load(t.Context(), partner); err != quota.ErrMissing || v != nil {
			t.Fatalf("Load = %v, %v, want %v", v, err, quota.ErrMissing)
		}
		want := quota.Register{Spacing: time.Millisecond, Next: 1_800_000_000_123_456_789, Kept: 7}
		if err := a.Store(t.Context(), partner, want, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Store(t.Context(), partner, quota.Register{Spacing: 1}, nil); err != quota.ErrChanged {
			t.Errorf("Store = %v, want %v", err, quota.ErrChanged)
		}
		if got, _, err := b.Load(t.Context(), partner); err != nil || got != want {
			t.Errorf("Load = %+v, %v, want %+v", got, err, want)
		}
		if _, _, err := b.Load(t.Context(), rand.Text()); err != quota.ErrMissing {
			t.Errorf("Load of another partner = %v, want %v", err, quota.ErrMissing)
		}
	})
	t.Run("a register is replaced as it was read", func(t *testing.T) {
		a, b, partner := open(t), open(t), rand.Text()
		first := quota.Register{Spacing: 1, Next: 1}
		if err := a.Store(t.Context(), partner, first, nil); err != nil {
			t.Fatal(err)
		}
		_, seen, err := a.Load(t.Context(), partner)
		if err != nil {
			t.Fatal(err)
		}
		_, same, err := b.Load(t.Context(), partner)
		if err != nil {
			t.Fatal(err)
		}
		second := quota.Register{Spacing: 1, Next: 2}
		if err := b.Store(t.Context(), partner, second, same); err != nil {
			t.Fatal(err)
		}
		if err := a.Store(t.Context(), partner, quota.Register{Spacing: 1, Next: 3}, seen); err != quota.ErrChanged {
			t.Errorf("Store = %v, want %v", err, quota.ErrChanged)
		}
		if got, _, err := a.Load(t.Context(), partner); err != nil || got != second {
			t.Errorf("Load = %+v, %v, want %+v", got, err, second)
		}
	})
	t.Run("no moment is handed out twice", func(t *testing.T) {
		const nodes, each = 4, 50
		partner := rand.Text()
		began := time.Now().UnixNano()
		var mu sync.Mutex
		held := make(map[int64]bool)
		var all sync.WaitGroup
		for range nodes {
			c := open(t)
			all.Go(func() {
				for got := 0; got < each; {
					r, v, err := c.Load(t.Context(), partner)
					switch {
					case err == quota.ErrMissing:
						r = quota.Register{Spacing: time.Millisecond, Next: began}
					case err != nil:
						t.Error(err)
						return
					}
					next, slots := r.Lease(began, time.Millisecond, 1)
					switch err := c.Store(t.Context(), partner, next, v); {
					case err == quota.ErrChanged:
						continue
					case err != nil:
						t.Error(err)
						return
					}
					got++
					mu.Lock()
					if held[slots.First] {
						t.Errorf("the moment %d is handed out twice", slots.First)
					}
					held[slots.First] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(held) != nodes*each {
			t.Errorf("%d moments are held, want %d", len(held), nodes*each)
		}
	})
}
