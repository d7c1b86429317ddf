package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"manna/ledger"
)

var vip = ledger.StockKey{Campaign: "spring", Gift: "vip"}

func held(t *testing.T, l ledger.Stock, k ledger.StockKey) (sum int64, byNode map[string]int64) {
	t.Helper()
	p, leases, err := l.Leases(t.Context(), k)
	ok(t, err)
	byNode = make(map[string]int64)
	for _, lease := range leases {
		byNode[lease.Node] = lease.Held
		sum += lease.Held
	}
	equal(t, "sum of the leases", p.Held, sum)
	return sum, byNode
}

func leasesWithinStock(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	a, b := join(t, l, "a"), join(t, l, "b")
	lease, err := l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	equal(t, "a holds", lease.Held, 60)
	// A repeat, as after a lost answer, raises nothing.
	lease, err = l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	equal(t, "a holds", lease.Held, 60)
	other, err := l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	equal(t, "b holds", other.Held, 40)
	lease, err = l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 100})
	ok(t, err)
	equal(t, "a holds", lease.Held, 60)
	lease, err = l.Return(ctx, vip, a, lease, 25)
	ok(t, err)
	equal(t, "a kept", lease.Held, 25)
	other, err = l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 70})
	ok(t, err)
	equal(t, "b holds", other.Held, 70)
	// A total that was lowered frees nothing and takes nothing away.
	lease, err = l.Lease(ctx, vip, a, ledger.Ask{Total: 10, UpTo: 30})
	ok(t, err)
	equal(t, "a holds", lease.Held, 25)
	// Gifts are apart.
	lease, err = l.Lease(ctx, ledger.StockKey{Campaign: "spring", Gift: "coin"}, a, ledger.Ask{Total: 5, UpTo: 9})
	ok(t, err)
	equal(t, "a holds of another gift", lease.Held, 5)
	p, none, err := l.Leases(ctx, ledger.StockKey{Campaign: "spring", Gift: "unheard-of"})
	ok(t, err)
	if len(none) > 0 || p != (ledger.Pool{}) {
		t.Fatalf("leases of an unknown gift: %+v %+v", p, none)
	}
}

func leaseAfterRestart(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	before := join(t, l, "a")
	lease, err := l.Lease(ctx, vip, before, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	after := join(t, l, "a") // its disk is the same
	for _, h := range []ledger.Holder{before, {Node: "a"}, {Node: "stranger", Epoch: 1}} {
		_, err = l.Lease(ctx, vip, h, ledger.Ask{Total: 100, UpTo: 90})
		wantErr(t, err, ledger.ErrFenced)
		_, err = l.Return(ctx, vip, h, lease, 0)
		wantErr(t, err, ledger.ErrFenced)
	}
	lease, err = l.Lease(ctx, vip, after, ledger.Ask{Total: 100, Used: 33, UpTo: 40})
	ok(t, err)
	equal(t, "the lease goes on", lease.Held, 60)
}

func lateReturn(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	h := join(t, l, "a")
	seen, err := l.Lease(ctx, vip, h, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	// The answer to a Return was lost, the node leases, and only now it arrives.
	now, err := l.Lease(ctx, vip, h, ledger.Ask{Total: 100, Used: 10, UpTo: 60})
	ok(t, err)
	_, err = l.Return(ctx, vip, h, seen, 10)
	wantErr(t, err, ledger.ErrLeaseChanged)
	_, err = l.Return(ctx, vip, h, now, 61)
	wantErr(t, err, ledger.ErrLeaseChanged)
	if _, err = l.Return(ctx, vip, h, now, -1); err == nil {
		t.Fatal("less than nothing was kept")
	}
	sum, _ := held(t, l, vip)
	equal(t, "held", sum, 60)
}

func settledStock(t *testing.T, o Opener) {
	l := o.open(t, "b", time.Now)
	ctx := t.Context()
	a, b := join(t, l, "a"), join(t, l, "b")
	_, err := l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	// a is silent; nobody knows whether it is dead.
	_, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 20)
	wantErr(t, err, ledger.ErrHeld)
	got, err := l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 100})
	ok(t, err)
	equal(t, "b holds beside a's lease", got.Held, 40)

	ok(t, l.Lose(ctx, "a", "ana"))
	_, err = l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 61}) // it was not dead
	wantErr(t, err, ledger.ErrFenced)
	// By the archive so far, then by the disk, which had more of the log.
	for _, used := range []int64{20, 20, 20} {
		s, err := l.Settle(ctx, vip, ledger.Holder{Node: "a"}, used)
		ok(t, err)
		equal(t, "a's lease", s.Held, used)
	}
	got, err = l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 70})
	ok(t, err)
	equal(t, "b holds", got.Held, 70)
	s, err := l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 25)
	wantErr(t, err, ledger.ErrOverdrawn)
	equal(t, "a's lease by a longer log", s.Held, 25)

	// a is back with its disk: what its log says is what it has used.
	back := join(t, l, "a")
	_, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 0)
	wantErr(t, err, ledger.ErrHeld)
	s, err = l.Lease(ctx, vip, back, ledger.Ask{Total: 100, Used: 25, UpTo: 40})
	ok(t, err)
	equal(t, "a holds what is left", s.Held, 30)
	ok(t, l.Leave(ctx, back, 0))
	s, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 26)
	ok(t, err)
	equal(t, "a's lease after it left", s.Held, 26)
	_, err = l.Settle(ctx, vip, ledger.Holder{Node: "nobody"}, 0)
	wantErr(t, err, ledger.ErrNotFound)
	if _, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, -1); err == nil {
		t.Fatal("less than nothing was used")
	}
}

func overdrawnStock(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	a, b := join(t, l, "a"), join(t, l, "b")
	_, err := l.Lease(ctx, vip, a, ledger.Ask{Total: 100, UpTo: 60})
	ok(t, err)
	ok(t, l.Lose(ctx, "a", "ana"))
	_, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 20)
	ok(t, err)
	_, err = l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 50})
	ok(t, err)
	lease, err := l.Lease(ctx, vip, join(t, l, "a"), ledger.Ask{Total: 100, Used: 45, UpTo: 60})
	wantErr(t, err, ledger.ErrOverdrawn)
	equal(t, "a holds what it used", lease.Held, 45)
	got, err := l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 100})
	ok(t, err)
	equal(t, "b holds", got.Held, 55)
}

func stockOfLostLog(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	old, b := join(t, l, "a"), join(t, l, "b")
	_, err := l.Lease(ctx, vip, old, ledger.Ask{Total: 100, UpTo: 80})
	ok(t, err)
	// 79 were handed out, and the log that says so is gone.
	ok(t, l.Lose(ctx, "a", "ana"))
	anew := func(home string) ledger.Holder {
		t.Helper()
		epoch, err := l.Join(ctx, ledger.Process{Node: "a", Home: home})
		ok(t, err)
		return ledger.Holder{Node: "a", Epoch: epoch}
	}
	h := anew("new-disk")
	lease, err := l.Lease(ctx, vip, h, ledger.Ask{Total: 100, UpTo: 100})
	ok(t, err)
	equal(t, "a new log of the name holds", lease.Held, 20)
	former := ledger.Former("a", old.Epoch)
	_, byNode := held(t, l, vip)
	equal(t, "leases", byNode, map[string]int64{former: 80, "a": 20})

	// Nobody can be the former holder, and a process of the same home goes on.
	if _, err := l.Join(ctx, ledger.Process{Node: former, Home: "new-disk"}); err == nil {
		t.Error("a process took the name of a lease whose log is gone")
	}
	h = anew("new-disk")
	lease, err = l.Lease(ctx, vip, h, ledger.Ask{Total: 100, Used: 5, UpTo: 20})
	ok(t, err)
	equal(t, "after a restart it holds", lease.Held, 20)

	// The old log was found, and says what the old process had handed out.
	lease, err = l.Settle(ctx, vip, ledger.Holder{Node: former}, 79)
	ok(t, err)
	equal(t, "the former lease", lease.Held, 79)
	_, err = l.Settle(ctx, vip, ledger.Holder{Node: "a"}, 5)
	wantErr(t, err, ledger.ErrHeld)
	lease, err = l.Lease(ctx, vip, b, ledger.Ask{Total: 100, UpTo: 100})
	ok(t, err)
	equal(t, "what b gets of it", lease.Held, 1)

	// Lost once more: both logs that are gone keep what they had.
	ok(t, l.Lose(ctx, "a", "ana"))
	anew("third-disk")
	_, byNode = held(t, l, vip)
	equal(t, "leases", byNode, map[string]int64{former: 79, ledger.Former("a", h.Epoch): 20, "b": 1})
}

func estates(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	anew := func(node, home string) ledger.Holder {
		t.Helper()
		epoch, err := l.Join(ctx, ledger.Process{Node: node, Home: home, End: 1})
		ok(t, err)
		return ledger.Holder{Node: node, Epoch: epoch}
	}
	coin := ledger.StockKey{Campaign: "spring", Gift: "coin"}
	lease := func(h ledger.Holder, k ledger.StockKey, upTo int64) {
		t.Helper()
		_, err := l.Lease(ctx, k, h, ledger.Ask{Total: 1000, UpTo: upTo})
		ok(t, err)
	}
	want := func(holder string, want ledger.Estate, held ...int64) {
		t.Helper()
		got, err := l.Estate(ctx, holder)
		ok(t, err)
		for i, k := range []ledger.StockKey{coin, vip}[:len(held)] {
			if i >= len(got.Leases) || got.Leases[i].StockKey != k || got.Leases[i].Held != held[i] || got.Leases[i].Node != holder {
				t.Fatalf("%s holds %+v, want %v", holder, got.Leases, held)
			}
		}
		equal(t, "leases of "+holder, len(got.Leases), len(held))
		got.Leases = nil
		equal(t, "estate of "+holder, got, want)
	}
	a := anew("a", "first")
	lease(a, vip, 60)
	lease(a, coin, 5)
	lease(anew("a_", "other"), vip, 3) // a name that is like its own
	lease(anew("ab", "other"), vip, 3)
	ok(t, l.Beat(ctx, a, 9))
	want("a", ledger.Estate{Holder: a, State: ledger.NodeUp, Home: "first", LogEnd: 9}, 5, 60)
	ok(t, l.Leave(ctx, a, 10))
	want("a", ledger.Estate{Holder: a, State: ledger.NodeLeft, Home: "first", LogEnd: 10, Ended: true}, 5, 60)
	// That the log has ended holds whatever a person says, until the next process.
	ok(t, l.Lose(ctx, "a", "ana"))
	want("a", ledger.Estate{Holder: a, State: ledger.NodeLost, Home: "first", LogEnd: 10, Ended: true}, 5, 60)

	second := anew("a", "second")
	first := ledger.Former("a", a.Epoch)
	want(first, ledger.Estate{Holder: ledger.Holder{Node: first}, Home: "first", LogEnd: 10, Ended: true}, 5, 60)
	want("a", ledger.Estate{Holder: second, State: ledger.NodeUp, Home: "second", LogEnd: 1, Formers: []string{first}})

	// A log that was read before its node was started again settles nothing.
	lease(second, coin, 7)
	ok(t, l.Beat(ctx, second, 20))
	ok(t, l.Lose(ctx, "a", "ana"))
	epoch, err := l.Join(ctx, ledger.Process{Node: "a", Home: "second", End: 20})
	ok(t, err)
	third := ledger.Holder{Node: "a", Epoch: epoch}
	ok(t, l.Lose(ctx, "a", "ana"))
	_, err = l.Settle(ctx, coin, second, 0)
	wantErr(t, err, ledger.ErrLeaseChanged)
	want("a", ledger.Estate{Holder: third, State: ledger.NodeLost, Home: "second", LogEnd: 20, Formers: []string{first}}, 7)
	_, err = l.Settle(ctx, coin, third, 4)
	ok(t, err)
	want("a", ledger.Estate{Holder: third, State: ledger.NodeLost, Home: "second", LogEnd: 20, Formers: []string{first}}, 4)

	// Two logs of one home cannot be told apart by it.
	anew("a", "second")
	alike := ledger.Former("a", third.Epoch)
	want(alike, ledger.Estate{Holder: ledger.Holder{Node: alike}, LogEnd: 20}, 4)
	_, err = l.Settle(ctx, coin, ledger.Holder{Node: first}, 1)
	ok(t, err)
	want(first, ledger.Estate{Holder: ledger.Holder{Node: first}, Home: "first", LogEnd: 10, Ended: true}, 1, 60)
	for _, nobody := range []string{"nobody", "a@99"} {
		_, err := l.Estate(ctx, nobody)
		wantErr(t, err, ledger.ErrNotFound)
	}
}

func refunds(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	h := join(t, l, "a")
	_, err := l.Lease(ctx, vip, h, ledger.Ask{Total: 10, UpTo: 10})
	ok(t, err)
	var back []ledger.Refund
	for i := range 4 {
		back = append(back, ledger.Refund{StockKey: vip, Claim: claim(fmt.Sprint("u", i/2), "rain", start()).Claim.ID, Count: 1})
	}
	var all sync.WaitGroup
	for range 6 { // two consumers, and each again after a restart
		all.Go(func() {
			if err := l.Refund(ctx, back); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	lease, err := l.Lease(ctx, vip, h, ledger.Ask{Total: 10, UpTo: 20})
	ok(t, err)
	equal(t, "held with what came back", lease.Held, 12)
	for _, bad := range []ledger.Refund{{StockKey: vip, Count: 1}, {StockKey: vip, Claim: back[0].Claim}} {
		if err := l.Refund(ctx, []ledger.Refund{bad}); err == nil {
			t.Errorf("refund %+v was taken", bad)
		}
	}
}

// front is a node's process: what it handed out is in its log, which outlives it.
type front struct {
	node string
	log  int64 // handed out
}

// live hands gifts out until it dies, at any point, or nothing is left. died is
// false in the latter case.
func (f *front) live(t *testing.T, l ledger.Cluster, total int64, random *rand.Rand, left int) (died bool) {
	ctx := t.Context()
	epoch, err := l.Join(ctx, ledger.Process{Node: f.node, Home: f.node})
	if err != nil {
		t.Error(err)
		return false
	}
	h := ledger.Holder{Node: f.node, Epoch: epoch}
	for idle := 0; idle < 3; {
		lease, err := l.Lease(ctx, vip, h, ledger.Ask{Total: total, Used: f.log, UpTo: f.log + 1 + random.Int64N(40)})
		if err != nil {
			t.Error(err)
			return false
		}
		if left > 0 && random.IntN(6) == 0 {
			return true // with a lease and nothing handed out of it
		}
		if lease.Held == f.log {
			idle++
			continue
		}
		idle = 0
		f.log += 1 + random.Int64N(lease.Held-f.log)
		switch random.IntN(8) {
		case 0:
			if left > 0 {
				return true
			}
		case 1:
			if _, err := l.Return(ctx, vip, h, lease, f.log); err != nil {
				t.Error(err)
				return false
			}
		}
	}
	return false
}

func leasingNodesDie(t *testing.T, o Opener) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const nodes, total = 4, 1500
	fronts := make([]*front, nodes)
	var all sync.WaitGroup
	for i := range nodes {
		f := &front{node: fmt.Sprint("front-", i)}
		fronts[i] = f
		l := o.open(t, f.node, time.Now)
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for deaths := 3; f.live(t, l, total, random, deaths); deaths-- {
				// It comes back, or is given up and settled by its log.
				if random.IntN(3) > 0 {
					continue
				}
				if err := l.Lose(t.Context(), f.node, "ana"); err != nil {
					t.Error(err)
					return
				}
				if _, err := l.Settle(t.Context(), vip, ledger.Holder{Node: f.node}, f.log); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	l := o.open(t, "last", time.Now)
	var out int64
	for _, f := range fronts {
		out += f.log
	}
	sum, byNode := held(t, l, vip)
	if out > sum || sum > total {
		t.Fatalf("%d were handed out and %d are leased of %d", out, sum, total)
	}
	for _, f := range fronts {
		if f.log > byNode[f.node] {
			t.Fatalf("%s handed out %d of %d", f.node, f.log, byNode[f.node])
		}
	}
	// What was not handed out is there for another: nothing is lost.
	for _, f := range fronts {
		ok(t, l.Lose(t.Context(), f.node, "ana"))
		_, err := l.Settle(t.Context(), vip, ledger.Holder{Node: f.node}, f.log)
		ok(t, err)
	}
	lease, err := l.Lease(t.Context(), vip, join(t, l, "last"), ledger.Ask{Total: total, UpTo: total})
	ok(t, err)
	equal(t, "left for the last node", lease.Held, total-out)
}
