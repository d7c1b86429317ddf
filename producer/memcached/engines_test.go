//go:build engines

package memcached

import (
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache/memcachetest"
)

func TestGuardOnMemcached(t *testing.T) {
	servers := []*memcachetest.Server{memcachetest.Start(t, "-M"), memcachetest.Start(t, "-M")}
	conform(t, func(*testing.T) {
		for _, s := range servers {
			s.Kill()
			s.Restart()
		}
	}, servers[0].Addr, servers[1].Addr)
}

// A server that throws claims away to make room lets them in again, on this front and
// on another, and does no other harm: what it still knows it says, and nothing fails.
func TestGuardOnAServerThatEvicts(t *testing.T) {
	server := memcachetest.Start(t, "-m", "2") // megabytes, and no -M
	a, b := open(t, "a", server.Addr), open(t, "b", server.Addr)
	id := func(n int) gift.ClaimID { return gift.ClaimID{byte(n >> 16), byte(n >> 8), byte(n), 1} }
	const claims = 40_000
	for n := range claims {
		if r, err := a.Reserve(t.Context(), id(n), nil, 0); err != nil || !r.Held {
			t.Fatalf("claim %d: Reserve = %+v, %v, want it held", n, r, err)
		}
		a.Commit(id(n), fallbacklog.Position(n+1))
	}
	for _, g := range []*Guard{a, b} {
		known, again := 0, 0
		for n := range claims {
			switch at, ok, err := g.Find(t.Context(), id(n)); {
			case err != nil:
				t.Fatalf("claim %d: Find: %v", n, err)
			case !ok:
				again++
			case at.At != fallbacklog.Position(n+1):
				t.Fatalf("claim %d is at %+v, want it where it was recorded", n, at)
			default:
				known++
			}
		}
		if known == 0 || again == 0 {
			t.Fatalf("%d claims are known and %d were thrown away, want some of each", known, again)
		}
		t.Logf("%d of %d claims were thrown away", again, claims)
	}
	// The oldest is gone: one front gets it, and the other waits for that one.
	if r, err := b.Reserve(t.Context(), id(0), nil, 0); err != nil || !r.Held {
		t.Fatalf("Reserve on b = %+v, %v, want it held", r, err)
	}
	if r, err := a.Reserve(t.Context(), id(0), nil, 0); err != nil || r.Busy == nil {
		t.Fatalf("Reserve on a = %+v, %v, want it busy", r, err)
	}
}

// Killed, the guard is out of the path at once, whoever has connections open; back,
// it is used again.
func TestGuardOverAKill(t *testing.T) {
	server := memcachetest.Start(t, "-M")
	g := open(t, "a", server.Addr)
	held := func(id gift.ClaimID) error {
		r, err := g.Reserve(t.Context(), id, nil, 0)
		if err == nil && !r.Held {
			t.Fatalf("Reserve = %+v, want it held", r)
		}
		g.Commit(id, 1)
		return err
	}
	for i := range 10 {
		if err := held(gift.ClaimID{1, byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	server.Kill()
	for i := range 10 {
		if err := held(gift.ClaimID{2, byte(i)}); err == nil {
			t.Fatal("a server that is not there holds a claim")
		}
	}
	server.Restart()
	for deadline := time.Now().Add(30 * time.Second); held(gift.ClaimID{3}) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guard does not come back")
		}
	}
}
