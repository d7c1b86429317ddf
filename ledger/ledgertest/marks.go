package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"manna/gift"
	"manna/ledger"
)

func attempt(order gift.OrderID, number int, node string, epoch int64) ledger.Attempt {
	return ledger.Attempt{Order: order, Number: number, Partner: "midas", Node: node, Epoch: epoch, Began: start().Add(time.Duration(epoch))}
}

func contestedMarks(t *testing.T, o Opener) {
	const consumers, orders = 8, 400
	var all sync.WaitGroup
	var mu sync.Mutex
	won := make(map[gift.OrderID][]string)
	held := make(map[gift.OrderID]map[string]bool)
	for i := range consumers {
		node := fmt.Sprint("consumer-", i)
		l := o.open(t, node, time.Now)
		all.Go(func() {
			// Each in an order of its own, in batches that overlap anyhow.
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for _, batch := range slices.Collect(slices.Chunk(random.Perm(orders), 50)) {
				var attempts []ledger.Attempt
				for _, n := range batch {
					attempts = append(attempts, attempt(orderOf(fmt.Sprint("u", n)), 1, node, 1))
				}
				standings, err := l.Mark(t.Context(), attempts)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for j, s := range standings {
					id := attempts[j].Order
					if s.Won {
						won[id] = append(won[id], node)
					}
					if s.Mark.Order != id || s.Won != s.Repeats(attempts[j]) {
						t.Errorf("%s asked for %v and got %+v", node, id, s)
					}
					if held[id] == nil {
						held[id] = make(map[string]bool)
					}
					held[id][s.Mark.Node] = true
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	equal(t, "orders that were marked", len(won), orders)
	for id, nodes := range won {
		if len(nodes) != 1 || len(held[id]) != 1 || !held[id][nodes[0]] {
			t.Fatalf("order %v was won by %v, and its mark is of %v", id, nodes, held[id])
		}
	}
}

func repeatedMarks(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	order := orderOf("ann")
	a := attempt(order, 1, "a", 7)
	// Of equal ones in a call the first wins.
	got, err := l.Mark(ctx, []ledger.Attempt{a, a, attempt(orderOf("bob"), 1, "a", 7)})
	ok(t, err)
	equal(t, "won", []bool{got[0].Won, got[1].Won, got[2].Won}, []bool{true, false, true})
	equal(t, "the mark", got[1].Mark, a)
	// The answer was lost, and the same process asks again.
	again, err := l.Mark(ctx, []ledger.Attempt{a})
	ok(t, err)
	equal(t, "a repeat", again, []ledger.Standing{{Mark: a}})
	equal(t, "is its own", again[0].Repeats(a), true)
	// The next process of the node, and another node, are not the holder.
	for _, other := range []ledger.Attempt{attempt(order, 1, "a", 8), attempt(order, 1, "b", 7)} {
		s, err := l.Mark(ctx, []ledger.Attempt{other})
		ok(t, err)
		equal(t, "what others meet", s, []ledger.Standing{{Mark: a}})
		equal(t, "is theirs", s[0].Repeats(other), false)
	}
	next, err := l.Mark(ctx, []ledger.Attempt{attempt(order, 2, "b", 1)})
	ok(t, err)
	equal(t, "the next attempt", next[0].Won, true)
	highest, err := l.Highest(ctx, []gift.OrderID{order, orderOf("nobody")})
	ok(t, err)
	equal(t, "highest", highest, map[gift.OrderID]ledger.Standing{order: {Mark: attempt(order, 2, "b", 1)}})
}

func grantedMarks(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	order := orderOf("ann")
	first, second := attempt(order, 1, "a", 1), attempt(order, 2, "a", 1)
	_, err := l.Mark(ctx, []ledger.Attempt{first})
	ok(t, err)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: first, State: gift.StateUnknown}}))
	_, err = l.Mark(ctx, []ledger.Attempt{second})
	ok(t, err)
	c.advance(time.Second)
	// A query found that the first had been applied.
	for range 2 {
		ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: first, State: gift.StateGranted}, {Attempt: second, State: gift.StateDeferred}}))
		c.advance(time.Second)
	}
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: first, State: gift.StateRefused}})) // never undone
	want := ledger.Standing{Mark: first, Concluded: gift.StateGranted, Time: start().Add(time.Second)}
	for _, number := range []int{1, 2, 3, 9} {
		s, err := l.Mark(ctx, []ledger.Attempt{attempt(order, number, "b", 1)})
		ok(t, err)
		equal(t, fmt.Sprint("attempt ", number, " of a granted order"), s, []ledger.Standing{want})
	}
	highest, err := l.Highest(ctx, []gift.OrderID{order})
	ok(t, err)
	equal(t, "highest", highest[order], want)
	// A grant that nobody marked is noted too.
	other := attempt(orderOf("bob"), 1, "a", 1)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: other, State: gift.StateDeferred}, {Attempt: other, State: gift.StateGranted}, {Attempt: other, State: gift.StateDeferred}}))
	s, err := l.Mark(ctx, []ledger.Attempt{attempt(other.Order, 2, "b", 1)})
	ok(t, err)
	equal(t, "after an unmarked grant", s[0].Concluded, gift.StateGranted)
}

func highestMarks(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	order := orderOf("ann")
	// Its first attempts were made when the partner could dedupe, and left no marks.
	third, fourth := attempt(order, 3, "a", 1), attempt(order, 4, "b", 1)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: third, State: gift.StateParked}}))
	_, err := l.Mark(ctx, []ledger.Attempt{fourth})
	ok(t, err)
	want := ledger.Standing{Mark: fourth, Parked: 3}
	for _, number := range []int{1, 2, 3, 4} {
		s, err := l.Mark(ctx, []ledger.Attempt{attempt(order, number, "c", 1)})
		ok(t, err)
		equal(t, fmt.Sprint("attempt ", number), s, []ledger.Standing{want})
	}
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: fourth, State: gift.StateDeferred}}))
	want.Concluded, want.Time = gift.StateDeferred, start()
	highest, err := l.Highest(ctx, []gift.OrderID{order})
	ok(t, err)
	equal(t, "highest", highest[order], want)
}

func releasedMarks(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	mine, done := attempt(orderOf("ann"), 1, "a", 2), attempt(orderOf("bob"), 1, "a", 2)
	_, err := l.Mark(ctx, []ledger.Attempt{mine, done})
	ok(t, err)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: done, State: gift.StateDeferred}}))
	ok(t, l.Release(ctx, []ledger.Attempt{attempt(mine.Order, 1, "b", 2), attempt(mine.Order, 1, "a", 1), done}))
	s, err := l.Mark(ctx, []ledger.Attempt{attempt(mine.Order, 1, "b", 2), attempt(done.Order, 1, "b", 2)})
	ok(t, err)
	equal(t, "won", []bool{s[0].Won, s[1].Won}, []bool{false, false})
	ok(t, l.Release(ctx, []ledger.Attempt{mine}))
	s, err = l.Mark(ctx, []ledger.Attempt{attempt(mine.Order, 1, "b", 2)})
	ok(t, err)
	equal(t, "won after the release", s[0].Won, true)
}

func sweptMarks(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	for i, states := range [][]gift.State{
		0: {gift.StateDeferred, gift.StateGranted},
		1: {gift.StateRefused},
		2: {gift.StateGranted, 0}, // another attempt is open
		3: {gift.StateDeferred},
		4: {gift.StateRefused, gift.StateUnknown},
		5: {0},
	} {
		for j, s := range states {
			a := attempt(orderOf(fmt.Sprint("u", i)), j+1, "a", 1)
			if s == 0 {
				// Marked before the grant was known.
				_, err := l.Mark(ctx, []ledger.Attempt{a})
				ok(t, err)
				continue
			}
			ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: a, State: s}}))
		}
	}
	open := attempt(orderOf("u6"), 2, "a", 1)
	_, err := l.Mark(ctx, []ledger.Attempt{attempt(open.Order, 1, "a", 1), open})
	ok(t, err)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: attempt(open.Order, 1, "a", 1), State: gift.StateRefused}}))
	n, err := l.Sweep(ctx, start(), 100)
	ok(t, err)
	equal(t, "swept too early", n, 0)
	c.advance(time.Hour)
	late := attempt(orderOf("late"), 1, "a", 1)
	ok(t, l.Conclude(ctx, []ledger.Conclusion{{Attempt: late, State: gift.StateGranted}}))
	n = 0
	for range 10 { // one at a time
		m, err := l.Sweep(ctx, c.now(), 1)
		ok(t, err)
		n += m
	}
	// u0's two, u1's one, and u2's one, whose second attempt a grant kept from being marked.
	equal(t, "swept", n, 4)
	left, err := l.Highest(ctx, []gift.OrderID{orderOf("u0"), orderOf("u1"), orderOf("u2"), orderOf("u3"), orderOf("u4"), orderOf("u5"), open.Order, late.Order})
	ok(t, err)
	equal(t, "orders with marks", len(left), 5)
}

func badMarks(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	if _, err := l.Mark(ctx, []ledger.Attempt{attempt(orderOf("ann"), 0, "a", 1)}); err == nil {
		t.Error("attempt 0 was marked")
	}
	if _, err := l.Mark(ctx, make([]ledger.Attempt, ledger.MaxMarks+1)); err == nil {
		t.Error("a call without bounds was taken")
	}
	if err := l.Conclude(ctx, []ledger.Conclusion{{Attempt: attempt(orderOf("ann"), 1, "a", 1), State: gift.StateAccepted}}); err == nil {
		t.Error("an attempt ended as accepted")
	}
	none, err := l.Mark(ctx, nil)
	ok(t, err)
	equal(t, "standings of nothing", len(none), 0)
}
