package producer

import (
	"testing"

	"manna/gift"
)

func TestRestoredClaims(t *testing.T) {
	g := newMemoryGuard()
	id := gift.ClaimID{1}
	g.Commit(id, 7)
	want(t, "older record", g.restore(id, 3), false)
	want(t, "newer record", g.restore(id, 9), false)
	at, _ := g.find(id)
	want(t, "the oldest counts", at, 3)
	want(t, "unknown", g.restore(gift.ClaimID{2}, 4), true)
	want(t, "claims", g.len(), 2)
}
