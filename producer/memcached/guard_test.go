package memcached

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache"
	"manna/internal/memcache/memcachetest"
	"manna/producer"
	"manna/producer/guardtest"
)

// The real server's suite is in engines_test.go; these need none.
func TestGuard(t *testing.T) {
	server := memcachetest.StartFake(t)
	conform(t, restarting(server), server.Addr)
}

func TestGuardOverSeveralServers(t *testing.T) {
	a, b, c := memcachetest.StartFake(t), memcachetest.StartFake(t), memcachetest.StartFake(t)
	conform(t, restarting(a, b, c), a.Addr, b.Addr, c.Addr)
}

// restarting has servers forget everything, and break what is connected.
func restarting(servers ...*memcachetest.Fake) func(*testing.T) {
	return func(*testing.T) {
		for _, s := range servers {
			s.Restart()
		}
	}
}

// conform puts guards on the servers through the suite.
func conform(t *testing.T, wipe func(*testing.T), servers ...string) {
	opener := func(lease time.Duration) func(t *testing.T, node string) producer.Guard {
		return func(t *testing.T, node string) producer.Guard { return openFor(t, node, lease, servers...) }
	}
	guardtest.Run(t, guardtest.Engine{Shared: true, Open: opener(time.Minute), Brief: opener(time.Second), Wipe: wipe})
}

func open(t *testing.T, node string, servers ...string) *Guard {
	t.Helper()
	return openFor(t, node, time.Minute, servers...)
}

func openFor(t *testing.T, node string, lease time.Duration, servers ...string) *Guard {
	t.Helper()
	// A machine that is busy with other things makes no server sick.
	c, err := memcache.New(memcache.Options{Name: "guard", Servers: servers, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g, err := New(Options{Client: c, Node: node, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func openImpatient(t *testing.T, node string, servers ...string) *Guard {
	t.Helper()
	c, err := memcache.New(memcache.Options{Name: "guard", Servers: servers, Timeout: 20 * time.Millisecond, OpenFor: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g, err := New(Options{Client: c, Node: node})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// once fails the first command of that name.
func once(command string, fault memcachetest.Fault) func(string, string) memcachetest.Fault {
	var first sync.Once
	return func(c, _ string) (f memcachetest.Fault) {
		if c == command {
			first.Do(func() { f = fault })
		}
		return f
	}
}

func TestAnAddWhoseAnswerWasLostIsReadBack(t *testing.T) {
	id := gift.ClaimID{1}
	t.Run("it was applied", func(t *testing.T) {
		fake := memcachetest.StartFake(t)
		g := open(t, "a", fake.Addr)
		fake.Fail(once("add", memcachetest.LoseLate))
		if r, err := g.Reserve(t.Context(), id, nil, 0); err != nil || !r.Held {
			t.Fatalf("Reserve = %+v, %v, want it held", r, err)
		}
		if r, err := open(t, "b", fake.Addr).Reserve(t.Context(), id, nil, 0); err != nil || r.Busy == nil {
			t.Fatalf("Reserve on b = %+v, %v, want it busy", r, err)
		}
	})
	t.Run("another has it", func(t *testing.T) {
		fake := memcachetest.StartFake(t)
		if r, err := open(t, "b", fake.Addr).Reserve(t.Context(), id, nil, 0); err != nil || !r.Held {
			t.Fatal(r, err)
		}
		fake.Fail(once("add", memcachetest.LoseLate))
		if r, err := open(t, "a", fake.Addr).Reserve(t.Context(), id, nil, 0); err != nil || r.Busy == nil {
			t.Fatalf("Reserve = %+v, %v, want it busy", r, err)
		}
	})
	t.Run("it was not applied", func(t *testing.T) {
		fake := memcachetest.StartFake(t)
		g := open(t, "a", fake.Addr)
		fake.Fail(once("add", memcachetest.Lose))
		if r, err := g.Reserve(t.Context(), id, nil, 0); err != nil || !r.Held {
			t.Fatalf("Reserve = %+v, %v, want it held", r, err)
		}
	})
	t.Run("nor was the next", func(t *testing.T) {
		fake := memcachetest.StartFake(t)
		g := open(t, "a", fake.Addr)
		fake.Fail(func(command, _ string) memcachetest.Fault {
			if command == "add" {
				return memcachetest.Lose
			}
			return memcachetest.None
		})
		if r, err := g.Reserve(t.Context(), id, nil, 0); !errors.Is(err, memcache.ErrDown) {
			t.Fatalf("Reserve = %+v, %v, want %v", r, err, memcache.ErrDown)
		}
		// What went on without the guard is recorded in it all the same.
		g.Commit(id, 7)
		if at, ok, err := open(t, "b", fake.Addr).Find(t.Context(), id); !ok || err != nil || at != (producer.Recorded{Node: "a", At: 7}) {
			t.Errorf("Find on b = %+v, %v, %v", at, ok, err)
		}
	})
	t.Run("a slot", func(t *testing.T) {
		fake := memcachetest.StartFake(t)
		g := open(t, "a", fake.Addr)
		ids := []gift.ClaimID{{1}, {2}}
		adds := 0
		fake.Fail(func(c, _ string) memcachetest.Fault {
			if c == "add" {
				if adds++; adds == 2 {
					return memcachetest.LoseLate
				}
			}
			return memcachetest.None
		})
		if r, err := g.Reserve(t.Context(), ids[0], ids, 1); err != nil || !r.Held {
			t.Fatalf("Reserve = %+v, %v, want it held", r, err)
		}
		if r, err := g.Reserve(t.Context(), ids[1], ids, 1); !errors.Is(err, &gift.Error{Code: gift.LimitReached}) {
			t.Fatalf("Reserve of a sibling = %+v, %v, want %s", r, err, gift.LimitReached)
		}
	})
}

// A server that hangs costs the first claims a while, and the others nothing.
func TestASickServerIsTakenOut(t *testing.T) {
	fake := memcachetest.StartFake(t)
	g := openImpatient(t, "a", fake.Addr)
	fake.Fail(func(string, string) memcachetest.Fault { return memcachetest.Hang })
	var calls int
	for i := range 50 {
		if r, err := g.Reserve(t.Context(), gift.ClaimID{byte(i)}, nil, 0); err == nil {
			t.Fatalf("Reserve = %+v of a server that hangs", r)
		}
		if i == 10 {
			calls = fake.Calls()
		}
	}
	if n := fake.Calls(); n != calls || n > 10 {
		t.Errorf("a server that hangs got %d calls, %d after the first ten claims, want at most 10 and none", n, n-calls)
	}
}

// Even where no breaker helps, a claim waits for a server that hangs no longer than its
// client does: two calls for its key, two for its slot, three timeouts each.
func TestAServerThatHangsHoldsNoClaim(t *testing.T) {
	const timeout = 20 * time.Millisecond
	const bound, busy = 12 * timeout, 2 * time.Second // what a busy machine may add
	fake := memcachetest.StartFake(t)
	c, err := memcache.New(memcache.Options{Name: "guard", Servers: []string{fake.Addr}, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Breakers()[0].Hold(breaker.HeldClosed)
	g, err := New(Options{Client: c, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ids := []gift.ClaimID{{1}, {2}, {3}}
	for _, id := range ids[:2] {
		for deadline := time.Now().Add(30 * time.Second); ; { // the machine may be too busy for the timeout
			if r, err := g.Reserve(t.Context(), id, ids, 2); err == nil && r.Held {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no claim is held")
			}
		}
	}
	fake.Fail(func(string, string) memcachetest.Fault { return memcachetest.Hang })
	for name, do := range map[string]func(){
		"Reserve": func() {
			if r, err := g.Reserve(t.Context(), ids[2], ids, 2); !errors.Is(err, memcache.ErrDown) {
				t.Errorf("Reserve = %+v, %v, want %v", r, err, memcache.ErrDown)
			}
		},
		"Commit":  func() { g.Commit(ids[0], 7) },
		"Release": func() { g.Release(ids[1]) },
		"Find": func() {
			if at, ok, err := g.Find(t.Context(), ids[0]); !errors.Is(err, memcache.ErrDown) {
				t.Errorf("Find = %+v, %v, %v, want %v", at, ok, err, memcache.ErrDown)
			}
		},
	} {
		began := time.Now()
		do()
		if took := time.Since(began); took > bound+busy {
			t.Errorf("%s of a server that hangs took %v, want at most %v", name, took, bound)
		}
	}
}

func TestAFullServerStillKnowsItsClaims(t *testing.T) {
	fake := memcachetest.StartFake(t)
	g := open(t, "a", fake.Addr)
	g.Commit(gift.ClaimID{1}, 5)
	fake.Fail(func(c, _ string) memcachetest.Fault {
		if c == "add" {
			return memcachetest.Full
		}
		return memcachetest.None
	})
	for range 20 {
		if r, err := open(t, "b", fake.Addr).Reserve(t.Context(), gift.ClaimID{1}, nil, 0); err != nil || r.Recorded.At != 5 {
			t.Fatalf("Reserve = %+v, %v, want it recorded", r, err)
		}
		if r, err := g.Reserve(t.Context(), gift.ClaimID{2}, nil, 0); !errors.Is(err, memcache.ErrFull) {
			t.Fatalf("Reserve = %+v, %v, want %v: no reason to stop asking", r, err, memcache.ErrFull)
		}
		g.Release(gift.ClaimID{2})
	}
}

func TestAWipedServerIsHarmlessBehindALog(t *testing.T) {
	fake := memcachetest.StartFake(t)
	g := open(t, "a", fake.Addr)
	id := gift.ClaimID{1}
	if r, err := g.Reserve(t.Context(), id, nil, 0); err != nil || !r.Held {
		t.Fatal(r, err)
	}
	fake.Wipe()
	if r, err := g.Reserve(t.Context(), id, nil, 0); err != nil || r.Busy == nil {
		t.Errorf("Reserve = %+v, %v: a process knows what it holds itself", r, err)
	}
	g.Release(id)
	if n := fake.Keys(); n != 0 {
		t.Errorf("%d keys, want none: there is nothing to give up", n)
	}
}

func TestWhatIsRecordedIsKept(t *testing.T) {
	fake := memcachetest.StartFake(t)
	g, ids := open(t, "a", fake.Addr), []gift.ClaimID{{1}, {2}}
	if r, err := g.Reserve(t.Context(), ids[0], ids, 1); err != nil || !r.Held {
		t.Fatal(r, err)
	}
	g.Commit(ids[0], 5)
	// The claim, and the slot that counts it against the user's limit.
	if n, left := fake.Keys(), fake.Shortest(); n != 2 || left < time.Hour {
		t.Errorf("%d keys live for %v at least, want 2 that live as long as a campaign", n, left)
	}
}

// A reservation ended by itself and another node has the claim by now: what is
// given up is not that node's.
func TestReleaseLeavesOthersAlone(t *testing.T) {
	fake := memcachetest.StartFake(t)
	a, b, id := open(t, "a", fake.Addr), open(t, "b", fake.Addr), gift.ClaimID{1}
	for _, g := range []*Guard{a, b} {
		if r, err := g.Reserve(t.Context(), id, nil, 0); err != nil || !r.Held {
			t.Fatal(r, err)
		}
		if g == a {
			fake.Wipe()
		}
	}
	a.Release(id)
	if r, err := a.Reserve(t.Context(), id, nil, 0); err != nil || r.Busy == nil {
		t.Errorf("Reserve = %+v, %v, want it busy: b holds it", r, err)
	}
}

func TestAForeignValueIsNoClaim(t *testing.T) {
	fake := memcachetest.StartFake(t)
	g := open(t, "a", fake.Addr)
	id := gift.ClaimID{1}
	for _, value := range []string{"", "1", "r a", "x a 1", "c a x", "c a -1", "c ! 1", "r a b c"} {
		if err := g.opts.Client.Set(t.Context(), g.key(id), []byte(value), time.Minute); err != nil {
			t.Fatal(err)
		}
		if r, err := g.Reserve(t.Context(), id, nil, 0); err == nil {
			t.Errorf("value %q: Reserve = %+v, want an error", value, r)
		}
		g.Release(id)
		if at, ok, err := g.Find(t.Context(), id); err == nil {
			t.Errorf("value %q: Find = %+v, %v, want an error", value, at, ok)
		}
	}
}

func TestACallerWhoHasGone(t *testing.T) {
	g := open(t, "a", memcachetest.StartFake(t).Addr)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Reserve(ctx, gift.ClaimID{1}, nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Reserve = %v, want %v", err, context.Canceled)
	}
	// It goes on, as with any error, until it ends.
	if r, err := g.Reserve(t.Context(), gift.ClaimID{1}, nil, 0); err != nil || r.Busy == nil {
		t.Errorf("Reserve = %+v, %v, want it busy", r, err)
	}
	g.Release(gift.ClaimID{1})
	if r, err := g.Reserve(t.Context(), gift.ClaimID{1}, nil, 0); err != nil || !r.Held {
		t.Errorf("Reserve = %+v, %v, want it held", r, err)
	}
}

// A claim that was recorded while its server took nothing is told later.
func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	server := memcachetest.StartFake(t)
	a, b := open(t, "a", server.Addr), open(t, "b", server.Addr)
	ctx, cancel := context.WithCancel(t.Context())
	var reminding sync.WaitGroup
	defer reminding.Wait()
	defer cancel()
	id, before := gift.ClaimID{1}, gift.ClaimID{2}
	// An earlier process of the node has told everything.
	if err := a.opts.Client.Set(ctx, a.memoryOf(id).wordKey, []byte(word{"before", 100, ""}.String()), 0); err != nil {
		t.Fatal(err)
	}
	reminding.Go(func() {
		a.Remind(ctx, maps.All(map[gift.ClaimID]fallbacklog.Position{id: 9, before: 5}))
	})
	for deadline := time.Now().Add(30 * time.Second); !a.memoryOf(id).sure(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guard is not sure of itself")
		}
	}
	server.Fail(func(command, _ string) memcachetest.Fault {
		if command == "set" {
			return memcachetest.Lose
		}
		return memcachetest.None
	})
	a.Commit(id, 9)
	server.Fail(nil)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if at, ok, err := b.Find(ctx, id); err == nil && ok && at == (producer.Recorded{Node: "a", At: 9}) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("Find = %+v, %v, %v", at, ok, err)
		}
	}
	if _, ok, err := b.Find(ctx, before); ok || err != nil {
		t.Errorf("Find = %v, %v of a claim that was told before: everything is told again", ok, err)
	}
}

// A claim that is told between a look's two readings was held at the look: what is below
// it may still be.
func TestMemoryIsThroughWhatWasToldBeforeTheLook(t *testing.T) {
	m := open(t, "a", "127.0.0.1:1").memories[0] // which nobody asks
	m.raise(10)
	m.advance(func() (look, oldest uint64) {
		m.raise(20) // 15 is held, and about to be told
		return 1, 0
	})
	m.advance(func() (look, oldest uint64) { return 2, 1 })
	if m.through != 10 {
		t.Errorf("through %d, want 10", m.through)
	}
}
