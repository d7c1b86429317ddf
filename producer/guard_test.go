package producer

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"manna/gift"
)

// Each goroutine claims one stage of a scene for a row of users: they meet at each
// user's limit.
func TestReservationsNeverPassTheLimit(t *testing.T) {
	const users, limit = 20_000, 2
	g := newMemoryGuard()
	campaign := gift.NewCampaignID("show")
	stages := []string{"s1", "s2", "s3"}
	held := make([]atomic.Int32, users)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for own := range stages {
		wg.Go(func() {
			<-start
			for u := range users {
				ids := make([]gift.ClaimID, len(stages))
				for i, stage := range stages {
					ids[i] = campaign.ClaimID("first", strconv.Itoa(u), stage)
				}
				r, err := g.Reserve(context.Background(), ids[own], ids, limit)
				if err == nil && r.Held {
					held[u].Add(1)
				}
			}
		})
	}
	close(start)
	wg.Wait()
	for u := range held {
		if n := held[u].Load(); n != limit {
			t.Fatalf("user %d holds %d reservations, want %d", u, n, limit)
		}
	}
}

func TestReservationIsHeldByOne(t *testing.T) {
	g := newMemoryGuard()
	ctx := context.Background()
	id := gift.ClaimID{1}
	reserve := func() Reservation {
		t.Helper()
		r, err := g.Reserve(ctx, id, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want(t, "first", reserve().Held, true)
	busy := reserve().Busy
	select {
	case <-busy:
		t.Fatal("the reservation ended by itself")
	default:
	}
	if _, ok, _ := g.Find(ctx, id); ok {
		t.Error("a reservation is no record")
	}
	g.Release(id)
	<-busy
	want(t, "after a release", reserve().Held, true)
	busy = reserve().Busy
	g.Commit(id, 7)
	<-busy
	want(t, "after a commit", reserve(), Reservation{At: 7})
	want(t, "older record", g.restore(id, 3), false)
	want(t, "newer record", g.restore(id, 9), false)
	want(t, "the oldest counts", reserve().At, 3)
	want(t, "claims", g.len(), 1)
}
