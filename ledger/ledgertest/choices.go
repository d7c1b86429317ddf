package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"manna/gift"
	"manna/ledger"
)

// choice is one of a gift with so many orders.
func choice(claim gift.ClaimID, name string, orders int) ledger.Choice {
	c := ledger.Choice{Claim: claim, Gift: name}
	for n := range orders {
		c.Orders = append(c.Orders, claim.OrderID(fmt.Sprint(name, n)))
	}
	return c
}

func contestedChoices(t *testing.T, o Opener) {
	const consumers, claims = 8, 400
	var all sync.WaitGroup
	var mu sync.Mutex
	stands := make(map[gift.ClaimID]ledger.Choice)
	for i := range consumers {
		l := o.open(t, fmt.Sprint("consumer-", i), time.Now)
		all.Go(func() {
			// Each in an order of its own, in batches that overlap anyhow.
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for _, batch := range slices.Collect(slices.Chunk(random.Perm(claims), 50)) {
				var choices []ledger.Choice
				for _, n := range batch {
					choices = append(choices, choice(gift.ClaimID{1, byte(n >> 8), byte(n)}, fmt.Sprint("gift-", i), i))
				}
				stand, err := l.Choose(t.Context(), choices)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for j, c := range choices {
					if first, ok := stands[c.Claim]; ok && !reflect.DeepEqual(first, stand[j]) {
						t.Errorf("claim %v was given %+v, and then %+v", c.Claim, first, stand[j])
					}
					stands[c.Claim] = stand[j]
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	equal(t, "claims with a gift", len(stands), claims)
}

func repeatedChoices(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	both, one := gift.ClaimID{2}, gift.ClaimID{3}
	vip, duo, cash := choice(both, "vip", 2), choice(both, "duo", 3), choice(one, "cash", 0)
	stand, err := l.Choose(ctx, []ledger.Choice{vip, cash, duo})
	ok(t, err)
	equal(t, "choices", len(stand), 3)
	equal(t, "the choice of a claim that is there twice", stand[0], stand[2])
	if !reflect.DeepEqual(stand[0], vip) && !reflect.DeepEqual(stand[0], duo) {
		t.Errorf("the choice of a claim is %+v, and nobody made that", stand[0])
	}
	equal(t, "the other's", stand[1], cash)
	again, err := o.open(t, "b", time.Now).Choose(ctx, []ledger.Choice{choice(one, "vip", 1), choice(both, "other", 4)})
	ok(t, err)
	equal(t, "choices that were asked for again", again, []ledger.Choice{cash, stand[0]})
	none, err := l.Choose(ctx, nil)
	ok(t, err)
	equal(t, "choices of nothing", len(none), 0)
	if _, err := l.Choose(ctx, make([]ledger.Choice, ledger.MaxChoices+1)); err == nil {
		t.Error("more choices than one call takes are taken")
	}
}

func sweptChoices(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	var choices []ledger.Choice
	for n := range 5 {
		choices = append(choices, choice(gift.ClaimID{4, byte(n)}, "vip", 1))
	}
	_, err := l.Choose(ctx, choices)
	ok(t, err)
	removed, err := l.SweepChoices(ctx, time.Now().Add(-time.Hour), 100)
	ok(t, err)
	equal(t, "young choices that were removed", removed, 0)
	total := int64(0)
	for range 5 {
		removed, err = l.SweepChoices(ctx, time.Now().Add(time.Hour), 2)
		ok(t, err)
		if removed > 2 {
			t.Errorf("%d were removed at a time, want at most 2", removed)
		}
		total += removed
	}
	equal(t, "old choices that were removed", total, 5)
	choices[0].Gift = "duo"
	stand, err := l.Choose(ctx, choices[:1])
	ok(t, err)
	equal(t, "the choice of one that was removed", stand, choices[:1])
}
