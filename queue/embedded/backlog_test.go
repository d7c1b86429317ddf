package embedded

import (
	"testing"

	"pgregory.net/rapid"

	"manna/fallbacklog"
)

// However coarse blocks get, they keep every order between the ends of one of
// them, the count, and the earliest claim time.
func TestBlocksCoverWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b blocks
		var added []fallbacklog.Position
		oldest, at := none, fallbacklog.At(1, 256)
		for range rapid.IntRange(1, 4).Draw(t, "runs") {
			step := rapid.SampledFrom([]fallbacklog.Position{300, 2 * blockGap, 1 << 32}).Draw(t, "step")
			for range rapid.IntRange(1, 3*maxBlocks/2).Draw(t, "orders") {
				at += step
				claimed := rapid.Int64Range(1000, 2000).Draw(t, "claimed")
				oldest = min(oldest, claimed)
				b.add(at, 1, claimed)
				added = append(added, at)
			}
		}
		if len(b.list) > maxBlocks {
			t.Fatalf("%d blocks, want at most %d", len(b.list), maxBlocks)
		}
		if got := b.oldest(); got != oldest {
			t.Fatalf("oldest %d, want %d", got, oldest)
		}
		i := 0
		for _, x := range b.list {
			var orders int64
			for ; i < len(added) && added[i] <= x.last; i++ {
				if added[i] < x.first {
					t.Fatalf("%v lies before its block, which begins at %v", added[i], x.first)
				}
				orders++
			}
			if orders != x.orders {
				t.Fatalf("a block counts %d orders and holds %d", x.orders, orders)
			}
		}
		if i != len(added) {
			t.Fatalf("%d orders lie behind the last block", len(added)-i)
		}
		next := rapid.SampledFrom(added).Draw(t, "next")
		b.drop(next)
		if len(b.list) == 0 || b.list[0].last < next {
			t.Fatalf("the blocks from %v on begin wrongly: %+v", next, b.list)
		}
	})
}
