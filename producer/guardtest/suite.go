// Package guardtest is the suite that every guard passes. A guard's own test calls
// Run with a way to open it:
//
//	guardtest.Run(t, guardtest.Engine{Open: func(t *testing.T, node string) producer.Guard { … }})
//
// Time is real and short: a guard that runs elsewhere has no other.
package guardtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/producer"
)

// patience is how long anything may take.
const patience = 30 * time.Second

// Engine is a kind of guard.
type Engine struct {
	// Open gives a node's guard. Those that one test opens share what they know,
	// unless the engine is of one node only.
	Open func(t *testing.T, node string) producer.Guard
	// Shared: the engine is of several nodes.
	Shared bool
	// Wipe has the engine forget everything, as a restart does: calls under way fail, and
	// connections break. Shared engines need it.
	Wipe func(t *testing.T)
	// Brief is Open for guards whose reservations end after a second or so; those of
	// Open outlive the suite, however busy the machine is. Shared engines need it.
	Brief func(t *testing.T, node string) producer.Guard
}

// Run puts an engine through the suite.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name   string
		shared bool
		run    func(t *testing.T, e Engine)
	}{
		{"a claim is held by one", false, heldByOne},
		{"a recorded claim is found", false, found},
		{"a claim may be recorded without a reservation", false, unreserved},
		{"of many at once one holds", false, race},
		{"the limit of a user is never passed", false, limit},
		{"what is given up counts against no limit", false, limitFreed},
		{"nodes keep each other's claims apart", true, nodes},
		{"of many nodes at once one holds", true, nodesRace},
		{"a user's limit holds over the nodes", true, nodesLimit},
		{"a node that comes back takes its own reservations over", true, restart},
		{"a reservation of a dead node ends", true, dead},
		{"what was forgotten is told again", true, forgotten},
		{"what a dead node recorded and could not tell", true, untold},
	} {
		if e.Shared || !c.shared {
			t.Run(c.name, func(t *testing.T) { c.run(t, e) })
		}
	}
}

// claims gives n claims that no other test has.
func claims(n int) []gift.ClaimID {
	campaign := gift.NewCampaignID(rand.Text())
	ids := make([]gift.ClaimID, n)
	for i := range ids {
		ids[i] = campaign.ClaimID("rain", "u", fmt.Sprint("s", i))
	}
	return ids
}

func reserve(t *testing.T, g producer.Guard, id gift.ClaimID, siblings []gift.ClaimID, limit int) producer.Reservation {
	t.Helper()
	r, err := g.Reserve(t.Context(), id, siblings, limit)
	if err != nil {
		t.Fatalf("Reserve: %v", err)
	}
	set := 0
	for _, is := range []bool{r.Held, r.Recorded != (producer.Recorded{}), r.Busy != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		t.Fatalf("Reserve = %+v, want exactly one field set", r)
	}
	return r
}

func wantHeld(t *testing.T, g producer.Guard, id gift.ClaimID) {
	t.Helper()
	if r := reserve(t, g, id, nil, 0); !r.Held {
		t.Fatalf("Reserve = %+v, want it held", r)
	}
}

func wantBusy(t *testing.T, g producer.Guard, id gift.ClaimID) <-chan struct{} {
	t.Helper()
	r := reserve(t, g, id, nil, 0)
	if r.Busy == nil {
		t.Fatalf("Reserve = %+v, want it busy", r)
	}
	return r.Busy
}

func wantRecorded(t *testing.T, g producer.Guard, id gift.ClaimID, want producer.Recorded) {
	t.Helper()
	if r := reserve(t, g, id, nil, 0); r.Recorded != want {
		t.Fatalf("Reserve = %+v, want it recorded at %+v", r, want)
	}
	if at, ok, err := g.Find(t.Context(), id); err != nil || !ok || at != want {
		t.Fatalf("Find = %+v, %v, %v, want %+v", at, ok, err, want)
	}
}

func closed(t *testing.T, busy <-chan struct{}) {
	t.Helper()
	select {
	case <-busy:
	case <-time.After(patience):
		t.Fatal("who waits is not told to ask again")
	}
}

func heldByOne(t *testing.T, e Engine) {
	g, id := e.Open(t, "a"), claims(1)[0]
	wantHeld(t, g, id)
	busy := wantBusy(t, g, id)
	if _, ok, err := g.Find(t.Context(), id); ok || err != nil {
		t.Errorf("Find = %v, %v: a reservation is no record", ok, err)
	}
	g.Release(id)
	closed(t, busy)
	wantHeld(t, g, id)
	busy = wantBusy(t, g, id)
	g.Commit(id, 7)
	closed(t, busy)
	wantRecorded(t, g, id, producer.Recorded{At: 7})
	g.Release(id) // of what is recorded: nothing
	wantRecorded(t, g, id, producer.Recorded{At: 7})
}

func found(t *testing.T, e Engine) {
	g, ids := e.Open(t, "a"), claims(50)
	for i, id := range ids {
		if _, ok, err := g.Find(t.Context(), id); ok || err != nil {
			t.Fatalf("Find = %v, %v before the claim", ok, err)
		}
		wantHeld(t, g, id)
		g.Commit(id, fallbacklog.Position(i+1)<<32)
	}
	for i, id := range ids {
		wantRecorded(t, g, id, producer.Recorded{At: fallbacklog.Position(i+1) << 32})
	}
}

func unreserved(t *testing.T, e Engine) {
	g, ids := e.Open(t, "a"), claims(2)
	g.Commit(ids[0], 3)
	wantRecorded(t, g, ids[0], producer.Recorded{At: 3})
	g.Release(ids[1])
	wantHeld(t, g, ids[1])
}

// together has many requests try to hold each of many claims, over the guards in
// turn, and counts for each claim how many did.
func together(t *testing.T, guards []producer.Guard, ids []gift.ClaimID, of func(user int) (siblings []gift.ClaimID, limit int)) []atomic.Int32 {
	held := make([]atomic.Int32, len(ids))
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range 8 {
		g := guards[i%len(guards)]
		all.Go(func() {
			<-start
			for n, id := range ids {
				siblings, limit := of(n)
				r, err := g.Reserve(t.Context(), id, siblings, limit)
				if _, refused := errors.AsType[*gift.Error](err); err != nil && !refused {
					t.Error(err)
				}
				if r.Held {
					held[n].Add(1)
				}
			}
		})
	}
	close(start)
	all.Wait()
	return held
}

func alone(int) ([]gift.ClaimID, int) { return nil, 0 }

func wantOneEach(t *testing.T, held []atomic.Int32) {
	t.Helper()
	for i := range held {
		if n := held[i].Load(); n != 1 {
			t.Fatalf("claim %d is held %d times, want once", i, n)
		}
	}
}

func race(t *testing.T, e Engine) {
	wantOneEach(t, together(t, []producer.Guard{e.Open(t, "a")}, claims(300), alone))
}

func nodesRace(t *testing.T, e Engine) {
	wantOneEach(t, together(t, []producer.Guard{e.Open(t, "a"), e.Open(t, "b"), e.Open(t, "c")}, claims(300), alone))
}

// limitOver has users claim all stages of a scene at once.
func limitOver(t *testing.T, guards []producer.Guard) {
	const users, stages, most = 100, 3, 2
	var ids []gift.ClaimID
	for range users {
		ids = append(ids, claims(stages)...)
	}
	held := together(t, guards, ids, func(n int) ([]gift.ClaimID, int) {
		first := n / stages * stages
		return ids[first : first+stages], most
	})
	for u := range users {
		n := int32(0)
		for s := range stages {
			n += held[u*stages+s].Load()
		}
		if n != most {
			t.Fatalf("user %d holds %d claims, want %d", u, n, most)
		}
	}
}

func limit(t *testing.T, e Engine) { limitOver(t, []producer.Guard{e.Open(t, "a")}) }
func nodesLimit(t *testing.T, e Engine) {
	limitOver(t, []producer.Guard{e.Open(t, "a"), e.Open(t, "b")})
}

func wantLimit(t *testing.T, g producer.Guard, id gift.ClaimID, siblings []gift.ClaimID, limit int) {
	t.Helper()
	if r, err := g.Reserve(t.Context(), id, siblings, limit); !errors.Is(err, &gift.Error{Code: gift.LimitReached}) {
		t.Fatalf("Reserve = %+v, %v, want %s", r, err, gift.LimitReached)
	}
}

func limitFreed(t *testing.T, e Engine) {
	g, ids := e.Open(t, "a"), claims(3)
	if r := reserve(t, g, ids[0], ids, 1); !r.Held {
		t.Fatalf("Reserve = %+v, want it held", r)
	}
	wantLimit(t, g, ids[1], ids, 1)
	g.Release(ids[0])
	if r := reserve(t, g, ids[1], ids, 1); !r.Held {
		t.Fatalf("after a release, Reserve = %+v, want it held", r)
	}
	g.Commit(ids[1], 9)
	wantLimit(t, g, ids[0], ids, 1)
	wantLimit(t, g, ids[2], ids, 1)
	if r := reserve(t, g, ids[1], ids, 1); r.Recorded.At != 9 {
		t.Fatalf("Reserve = %+v: a repeat counts against no limit", r)
	}
}

func nodes(t *testing.T, e Engine) {
	a, b, id := e.Open(t, "a"), e.Open(t, "b"), claims(1)[0]
	wantHeld(t, a, id)
	closed(t, wantBusy(t, b, id))
	b.Release(id) // is not b's to give up
	wantBusy(t, b, id)
	a.Release(id)
	wantHeld(t, b, id)
	b.Commit(id, 11)
	wantRecorded(t, a, id, producer.Recorded{Node: "b", At: 11})
	wantRecorded(t, b, id, producer.Recorded{At: 11})
	a.Commit(id, 12) // the guard was away when a asked, and both have it now
	for _, g := range []producer.Guard{a, b} {
		if _, ok, err := g.Find(t.Context(), id); !ok || err != nil {
			t.Errorf("Find = %v, %v", ok, err)
		}
	}
}

func restart(t *testing.T, e Engine) {
	ids := claims(2)
	before := e.Open(t, "a")
	for _, id := range ids {
		if r := reserve(t, before, id, ids, 2); !r.Held {
			t.Fatalf("Reserve = %+v, want it held", r)
		}
	}
	after := e.Open(t, "a")
	for i, id := range ids {
		if r := reserve(t, after, id, ids, 2); !r.Held {
			t.Fatalf("claim %d: Reserve = %+v, want it held: who held it is dead", i, r)
		}
	}
}

// forgotten has two nodes' guard wiped: neither is sure of anything until both have told
// it again what they know.
func forgotten(t *testing.T, e Engine) {
	own := map[string]gift.ClaimID{"a": claims(1)[0], "b": claims(1)[0]}
	guards := map[string]producer.SharedGuard{}
	for node := range own {
		g := e.Open(t, node).(producer.SharedGuard)
		if r := reserve(t, g, own[node], nil, 0); !r.Held || !r.Unsure {
			t.Fatalf("Reserve = %+v before anybody was reminded, want it held and unsure", r)
		}
		g.Commit(own[node], 7)
		remind(t, g, map[gift.ClaimID]fallbacklog.Position{own[node]: 7})
		guards[node] = g
	}
	for node := range own {
		settle(t, guards[node])
	}
	e.Wipe(t)
	for node, other := range map[string]string{"a": "b", "b": "a"} {
		remembers(t, guards[node], own[other], producer.Recorded{Node: other, At: 7})
	}
}

// remind runs Remind until what it gives is called, or the test ends.
func remind(t *testing.T, g producer.SharedGuard, own map[gift.ClaimID]fallbacklog.Position) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Remind(ctx, maps.All(own))
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// untold has a node die that has recorded one claim, and not another, and has told
// neither. A second node gets neither until the first is back.
func untold(t *testing.T, e Engine) {
	ids := claims(3)
	before, made, left := ids[0], ids[1], ids[2]
	own := map[gift.ClaimID]fallbacklog.Position{before: 5}
	a := e.Open(t, "a").(producer.SharedGuard)
	stop := remind(t, a, own)
	settle(t, a)
	wantHeld(t, a, made)
	wantHeld(t, a, left)
	stop()

	b := e.Open(t, "b").(producer.SharedGuard)
	remind(t, b, nil)
	settle(t, b)
	for _, id := range []gift.ClaimID{made, left} {
		closed(t, wantBusy(t, b, id))
		wantBusy(t, b, id)
	}
	own[made] = 7
	again := e.Open(t, "a").(producer.SharedGuard)
	fresh := claims(1)[0] // of its next process, before that has told anything
	wantHeld(t, again, fresh)
	wantBusy(t, b, fresh)
	remind(t, again, own)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r := reserve(t, b, made, nil, 0)
		if r.Held {
			t.Fatal("a claim that a dead node had recorded is let in")
		}
		if r.Recorded == (producer.Recorded{Node: "a", At: 7}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Reserve = %+v, want it recorded by a", r)
		}
	}
	for deadline := time.Now().Add(patience); !reserve(t, b, left, nil, 0).Held; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a claim that no log has stays with a node that is back")
		}
	}
	wantBusy(t, b, fresh)
}

// settle waits until a guard is sure.
func settle(t *testing.T, g producer.Guard) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		id := claims(1)[0]
		r, err := g.Reserve(t.Context(), id, nil, 0)
		g.Release(id)
		if err == nil && r.Held && !r.Unsure {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Reserve = %+v, %v: the guard is not sure of itself", r, err)
		}
	}
}

// remembers asks for another node's claim until the guard knows it again. It may not be
// let in by one that is sure.
func remembers(t *testing.T, g producer.Guard, id gift.ClaimID, want producer.Recorded) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r, err := g.Reserve(t.Context(), id, nil, 0)
		switch {
		case r.Held && !r.Unsure:
			t.Fatal("a claim that another node has recorded is let in, and the guard is sure")
		case r.Held || err != nil:
			g.Release(id)
		case r.Recorded == want:
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Reserve = %+v, %v, want it recorded at %+v", r, err, want)
		}
	}
}

func dead(t *testing.T, e Engine) {
	id := claims(1)[0]
	wantHeld(t, e.Brief(t, "a"), id)
	b := e.Brief(t, "b")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		r, err := b.Reserve(ctx, id, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Held {
			return
		}
		select {
		case <-r.Busy:
		case <-ctx.Done():
			t.Fatal("the reservation of a dead node does not end")
		}
	}
}
