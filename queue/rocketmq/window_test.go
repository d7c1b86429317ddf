package rocketmq

import (
	"testing"

	"pgregory.net/rapid"
)

// TestWindow holds the place to its definition: the lowest offset that is there and
// has not been let go.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 1000).Draw(t, "start")
		w := window{base: start}
		next := start
		open := map[int64]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.add()
				open[next] = true
				next++
			},
			"skip": func(t *rapid.T) {
				to := next + rapid.Int64Range(-3, 5).Draw(t, "gap")
				w.skip(to)
				next = max(next, to)
			},
			"release": func(t *rapid.T) {
				// One that was let go before, or never was, changes nothing.
				at := rapid.Int64Range(start-2, next+2).Draw(t, "at")
				w.release(at)
				delete(open, at)
			},
			"": func(t *rapid.T) {
				lowest := next
				for at := range open {
					lowest = min(lowest, at)
				}
				if w.base != lowest || w.next() != next {
					t.Fatalf("the place is %d and the next is %d, want %d and %d", w.base, w.next(), lowest, next)
				}
			},
		})
	})
}

func TestSharesCoverEachQueueOnce(t *testing.T) {
	for n := range 40 {
		for m := 1; m <= 12; m++ {
			at := 0
			for i := range m {
				from, to := share(n, m, i)
				if from != at || to < from || to-from > n/m+1 {
					t.Fatalf("of %d queues member %d of %d has %d to %d, and the one before ends at %d", n, i, m, from, to, at)
				}
				at = to
			}
			if at != n {
				t.Fatalf("of %d queues %d members have %d", n, m, at)
			}
		}
	}
}
