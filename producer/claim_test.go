package producer

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func TestAcceptedClaimIsOnDiskAndARepeatGetsIt(t *testing.T) {
	f := openFixture(t)
	first := f.claim(Request{Campaign: "spring", User: "u1", Target: []byte(`{"wallet":"w"}`)})
	want(t, "duplicate", first.Duplicate, false)
	want(t, "deliver by", first.Claim.DeliverBy, f.clock.now().Add(48*time.Hour))
	want(t, "claim id", first.Claim.ID, gift.NewCampaignID("spring").ClaimID("rain", "u1", ""))
	recs := f.records(fallbacklog.Claimed)
	if len(recs) != 1 || string(recs[0].Claim.Target) != `{"wallet":"w"}` || len(recs[0].Claim.Orders) != 1 {
		t.Fatalf("log holds %+v", recs)
	}
	f.clock.move(time.Second)
	again := f.claim(Request{Campaign: "spring", User: "u1"})
	want(t, "duplicate", again.Duplicate, true)
	want(t, "receipt", again.Receipt, first.Receipt)
	want(t, "claimed at", again.Claim.ClaimedAt, first.Claim.ClaimedAt)
	want(t, "records", len(f.records(fallbacklog.Claimed)), 1)
	// As its format is documented, by other means.
	mac := hmac.New(sha256.New, receiptKey)
	fmt.Fprintf(mac, "%v|cash|%d", first.Claim.ID, first.Claim.ClaimedAt.UnixMilli())
	want(t, "receipt", first.Receipt, "mr1."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]))
}

func TestOneClaimFromManyAtOnce(t *testing.T) {
	f := openFixture(t)
	const n = 64
	answers := make([]Answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if answers[i], err = f.Claim(context.Background(), Request{Campaign: "spring", User: "u1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := 0
	for _, a := range answers {
		if !a.Duplicate {
			first++
		}
		want(t, "receipt", a.Receipt, answers[0].Receipt)
	}
	want(t, "accepted anew", first, 1)
	want(t, "records", len(f.records(fallbacklog.Claimed)), 1)
}

func TestRepeatTakesOverWhenTheFirstFailed(t *testing.T) {
	f := openFixture(t)
	id := gift.NewCampaignID("spring").ClaimID("rain", "u1", "")
	r, err := f.guard.Reserve(context.Background(), id, nil, 0)
	if err != nil || !r.Held {
		t.Fatalf("reserve: %+v, %v", r, err)
	}
	done := make(chan Answer, 1)
	go func() {
		a, err := f.Claim(context.Background(), Request{Campaign: "spring", User: "u1"})
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	// The repeat waits for the one that holds the reservation.
	if r, err := f.guard.Reserve(context.Background(), id, nil, 0); err != nil || r.Busy == nil {
		t.Fatalf("second reserve: %+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Claim(ctx, Request{Campaign: "spring", User: "u1"}); !errors.Is(err, &gift.Error{Code: gift.Unavailable}) {
		t.Fatalf("a repeat that stops waiting: got %v", err)
	}
	f.guard.Release(id)
	want(t, "duplicate", (<-done).Duplicate, false)
	want(t, "records", len(f.records(fallbacklog.Claimed)), 1)
}

func TestRestartKnowsEveryClaimAndWhatIsLeft(t *testing.T) {
	f, d := crashing(t)
	const n = 150 // several segments
	pad := []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}`)
	given := map[string]int{}
	for i := range n {
		f.claim(Request{Campaign: "spring", User: user(i), Target: pad})
		if i < 97 {
			given[f.claim(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: user(i)}).Claim.Gift]++
		}
	}
	returned := f.claim(Request{Campaign: "show", Scene: "second", User: user(0), Gift: "pack", Platform: "ios"})
	f.giveBack(returned.Claim)
	left := func(f *fixture) [2]int64 {
		return [2]int64{f.left("show", "pack"), f.left("show", "greeting")}
	}
	before := left(f)
	want(t, "left", before, [2]int64{int64(100 - given["pack"] + 1), int64(5 - given["greeting"])})
	// The disk as a SIGKILL leaves it; the old process's log is simply abandoned.
	f = openFixtureOn(t, d.Kill(), f.dir)
	want(t, "left after the restart", left(f), before)
	for i := range n {
		a := f.claim(Request{Campaign: "spring", User: user(i)})
		if !a.Duplicate {
			t.Fatalf("claim of %s was forgotten", user(i))
		}
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), n+97)
}

func TestStockIsNeverExceeded(t *testing.T) {
	const total, users = 40, 200
	c := testCampaigns()[0]
	c.Gifts[0].Stock = total
	f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted, soldOut := 0, 0
	for i := range users {
		wg.Go(func() {
			_, err := f.Claim(context.Background(), Request{Campaign: "spring", User: user(i)})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				accepted++
			case errors.Is(err, &gift.Error{Code: gift.SoldOut}):
				soldOut++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want(t, "accepted", accepted, total)
	want(t, "sold out", soldOut, users-total)
	want(t, "records", len(f.records(fallbacklog.Claimed)), total)

	// A reload keeps what was taken.
	more := *c
	more.Gifts = []*gift.Gift{{Name: "cash", Stock: total + 1, Items: c.Gifts[0].Items}}
	f.Reload(compileCampaigns(t, &more))
	f.claim(Request{Campaign: "spring", User: "one more"})
	f.refused(Request{Campaign: "spring", User: "one too many"}, gift.SoldOut)
	fewer := *c
	fewer.Gifts = []*gift.Gift{{Name: "cash", Stock: 1, Items: c.Gifts[0].Items}}
	f.Reload(compileCampaigns(t, &fewer))
	f.refused(Request{Campaign: "spring", User: "one too many"}, gift.SoldOut)
}

func TestLowStockGivesTheOtherGiftFirst(t *testing.T) {
	f := openFixture(t)
	got := map[string]int{}
	var order []string
	for i := range 105 {
		a := f.claim(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: user(i)})
		if got[a.Claim.Gift]++; len(order) == 0 || order[len(order)-1] != a.Claim.Gift {
			order = append(order, a.Claim.Gift)
		}
	}
	want(t, "packs", got["pack"], 100)
	want(t, "greetings", got["greeting"], 5)
	// 91 packs leave 9, fewer than 10; then the greetings, then the last packs.
	if !slices.Equal(order, []string{"pack", "greeting", "pack"}) {
		t.Errorf("order %v", order)
	}
	f.refused(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: "late"}, gift.SoldOut)
}

func TestReturnedGiftIsGivenAgain(t *testing.T) {
	c := testCampaigns()[0]
	c.Gifts[0].Stock = 1
	f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	a := f.claim(Request{Campaign: "spring", User: "u1"})
	f.refused(Request{Campaign: "spring", User: "u2"}, gift.SoldOut)
	f.giveBack(a.Claim)
	f.claim(Request{Campaign: "spring", User: "u2"})
	f.refused(Request{Campaign: "spring", User: "u3"}, gift.SoldOut)
	// The claim whose gift went back stays claimed.
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u1"}).Duplicate, true)
}

// giveBack does what a lane does when every order of a claim was refused.
func (f *fixture) giveBack(c *gift.Claim) {
	f.t.Helper()
	rec := &fallbacklog.Record{Kind: fallbacklog.Returned, Stock: &fallbacklog.Stock{Campaign: c.Campaign, Gift: c.Gift, Count: 1, Claim: c.ID}}
	if err := f.log.Append(context.Background(), rec); err != nil {
		f.t.Fatal(err)
	}
	f.Returned(rec.Stock)
}
