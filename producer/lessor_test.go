package producer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
)

var cash = ledger.StockKey{Campaign: "spring", Gift: "cash"}

// stocked is campaign spring with a stock of its gift.
func stocked(t *testing.T, total int64) *Snapshot {
	c := testCampaigns()[0]
	c.Gifts[0].Stock = total
	return compileCampaigns(t, c)
}

// leasing opens the front of a node that leases from l.
func leasing(t *testing.T, l landlord, node string, s *Snapshot) *fixture {
	t.Helper()
	leases := joined(t, l, node)
	return openNode(t, node, crashdisk.New(1), "/data", func(o *Options) { o.Snapshot, o.Leases = s, leases })
}

// drain claims until something else than a gift is the answer, and gives that.
func (f *fixture) drain(prefix string) (claims int, end gift.Code) {
	f.t.Helper()
	for {
		_, err := f.Claim(context.Background(), Request{Campaign: "spring", User: prefix + user(claims)})
		if err != nil {
			told, _ := errors.AsType[*gift.Error](err)
			return claims, told.Code
		}
		claims++
	}
}

func TestFrontsShareAStockToTheLastPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 1000
		l, s := newLender(), stocked(t, total)
		a, b := leasing(t, l, "a", s), leasing(t, l, "b", s)
		a.running()
		b.running()
		claims := make(chan int)
		for _, f := range []*fixture{a, b} {
			go func() {
				n, end := f.drain(f.log.Node())
				want(t, f.log.Node()+" ended with", end, gift.SoldOut)
				claims <- n
			}()
		}
		got := <-claims + <-claims
		if got > total {
			t.Fatalf("%d claims of %d were accepted", got, total)
		}
		// What one had left when the other found nothing comes back to both.
		for got < total {
			time.Sleep(poolEvery)
			for _, f := range []*fixture{a, b} {
				n, _ := f.drain(f.log.Node() + "'s " + time.Now().String())
				got += n
			}
		}
		want(t, "accepted", got, total)
		want(t, "taken", a.stock.of("spring", "cash").Load()+b.stock.of("spring", "cash").Load(), total)
		// A gift that comes back is somebody's.
		id := gift.NewCampaignID("spring").ClaimID("rain", "au0", "")
		l.Refund(t.Context(), []ledger.Refund{{StockKey: cash, Claim: id, Count: 1}})
		time.Sleep(2 * poolEvery)
		n, _ := a.drain("late a")
		m, end := b.drain("late b")
		want(t, "claims of what came back", n+m, 1)
		want(t, "and then", end, gift.SoldOut)
	})
}

func TestWhatIsLeftOfAShareComesBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 1000)
		a := leasing(t, l, "a", s)
		stop := a.running()
		a.claim(Request{Campaign: "spring", User: "u"})
		if held := l.held(cash)["a"]; held < 2 {
			t.Errorf("%d are leased ahead", held)
		}
		stop()
		want(t, "held after the end", l.held(cash)["a"], 1)
		began := time.Now()
		told := a.refused(Request{Campaign: "spring", User: "v"}, gift.Unavailable)
		if told.RetryAfter <= 0 || time.Since(began) > 0 {
			t.Errorf("refused after %v, come again after %v", time.Since(began), told.RetryAfter)
		}
	})
}

func TestARestartGoesOnWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 100)
		d := crashdisk.New(1)
		leases := joined(t, l, "a")
		a := openNode(t, "a", d, "/data", func(o *Options) { o.Snapshot, o.Leases = s, leases })
		dying := a.running()
		for i := range 7 {
			a.claim(Request{Campaign: "spring", User: user(i)})
		}
		held := l.held(cash)["a"]
		d = d.Kill()
		again := joined(t, l, "a")
		dying() // fenced: it gives nothing back
		want(t, "held by the dead", l.held(cash)["a"], held)

		// Before the ledger has said what is left of it, the share is not used.
		l.set(func() fault { return fails })
		a = openNode(t, "a", d, "/data", func(o *Options) { o.Snapshot, o.Leases = s, again })
		want(t, "taken, by the log", a.stock.of("spring", "cash").Load(), 7)
		stop := a.running()
		a.refused(Request{Campaign: "spring", User: "v"}, gift.Unavailable)
		l.set(nil)
		time.Sleep(time.Second)
		a.claim(Request{Campaign: "spring", User: "v"})
		stop()
		want(t, "held at the end", l.held(cash)["a"], 8)
	})
}

// A node that was settled by a log that was cut short has handed out more than the
// ledger thinks. That is said, counted, and not handed out again.
func TestMoreWasHandedOutThanTheLedgerKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 10)
		d := crashdisk.New(1)
		said := &lines{}
		open := func() *fixture {
			leases := joined(t, l, "a")
			return openNode(t, "a", d, "/data", func(o *Options) {
				o.Snapshot, o.Leases, o.Logger = s, leases, slog.New(slog.NewTextHandler(said, nil))
			})
		}
		a := open()
		stop := a.running()
		for i := range 4 {
			a.claim(Request{Campaign: "spring", User: user(i)})
		}
		stop()
		d = d.Kill()
		l.Lose(t.Context(), "a", "ana")
		if _, err := l.Settle(t.Context(), cash, ledger.Holder{Node: "a"}, 1); err != nil {
			t.Fatal(err)
		}
		a = open()
		a.running()
		n, end := a.drain("more")
		want(t, "claims of the rest", n, 6)
		want(t, "and then", end, gift.SoldOut)
		if !strings.Contains(said.String(), "more of a gift was handed out") {
			t.Errorf("it was not said: %s", said)
		}
	})
}

// While the ledger is away a front hands out what it holds, and then says that it
// cannot know. Nobody waits longer than the patience of a request.
func TestDeadLedger(t *testing.T) {
	for name, how := range map[string]fault{"refuses": fails, "hangs": hangs, "loses answers": loses} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLender()
				c := testCampaigns()[:2]
				c[0].Gifts[0].Stock = 1000
				a := leasing(t, l, "a", compileCampaigns(t, c...))
				a.running()
				a.claim(Request{Campaign: "spring", User: "first"})
				synctest.Wait()
				left := a.stock.of("spring", "cash").left()
				l.set(func() fault { return how })
				n, end := a.drain("u")
				if int64(n) < left || left == 0 {
					t.Errorf("%d claims with %d on hand", n, left)
				}
				want(t, "and then", end, gift.Unavailable)
				all := time.Now()
				for i := range 20 {
					began := time.Now()
					told := a.refused(Request{Campaign: "spring", User: "more" + user(i)}, gift.Unavailable)
					if waited := time.Since(began); waited > patient || told.RetryAfter <= 0 {
						t.Errorf("claim %d waited %v, come again after %v", i, waited, told.RetryAfter)
					}
				}
				if waited := time.Since(all); waited > patient {
					t.Errorf("one after the other they waited %v for one ledger", waited)
				}
				// The claims of one batch have one patience.
				began := time.Now()
				for i, r := range a.ClaimBatch(t.Context(), []Request{{Campaign: "spring", User: "b1"}, {Campaign: "spring", User: "b2"}, {Campaign: "show", Scene: "second", Gift: "duo", User: "b3"}}) {
					if (r.Err == nil) != (i == 2) {
						t.Errorf("claim %d of the batch: %v", i, r.Err)
					}
				}
				if waited := time.Since(began); waited > patient {
					t.Errorf("a batch waited %v", waited)
				}
				calls := l.calls.Load()
				time.Sleep(10 * time.Second)
				if notes := a.Notes(); len(notes) != 1 {
					t.Errorf("notes %q", notes)
				}
				if n := l.calls.Load() - calls; n > 30 {
					t.Errorf("the dead ledger was called %d times in 10 s", n)
				}
				l.set(nil)
				time.Sleep(leaseWithin + time.Second)
				a.claim(Request{Campaign: "spring", User: "last"})
				if notes := a.Notes(); len(notes) != 0 {
					t.Errorf("notes after the recovery %q", notes)
				}
			})
		})
	}
}

func TestSoldOutIsTheLedgersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 10)
		a, b := leasing(t, l, "a", s), leasing(t, l, "b", s)
		stop := a.running()
		n, end := a.drain("a")
		want(t, "claims", n, 10)
		want(t, "and then", end, gift.SoldOut)
		// The word counts for a while only: a gift may have come back since.
		l.set(func() fault { return fails })
		time.Sleep(dryFor + poolEvery)
		a.refused(Request{Campaign: "spring", User: "v"}, gift.Unavailable)
		l.set(nil)
		stop()
		// Nor is it another total's.
		b.running()
		b.refused(Request{Campaign: "spring", User: "w"}, gift.SoldOut)
		b.Reload(stocked(t, 11))
		b.claim(Request{Campaign: "spring", User: "w"})
		b.refused(Request{Campaign: "spring", User: "x"}, gift.SoldOut)
	})
}

// A node that is given up stops handing out of its share at the first word of it.
func TestFencedFrontHandsNothingOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 1000)
		var h atomic.Pointer[ledger.Holder]
		join := func() {
			epoch, _ := l.Join(t.Context(), ledger.Process{Node: "a"})
			h.Store(&ledger.Holder{Node: "a", Epoch: epoch})
		}
		join()
		a := openNode(t, "a", crashdisk.New(1), "/data", func(o *Options) {
			o.Snapshot, o.Leases = s, &Leases{Stock: l, Holder: func() (ledger.Holder, error) { return *h.Load(), nil }}
		})
		a.running()
		a.claim(Request{Campaign: "spring", User: "u"})
		// A person gives the node up, by its log, while it is cut off.
		l.Lose(t.Context(), "a", "ana")
		if _, err := l.Settle(t.Context(), cash, ledger.Holder{Node: "a"}, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * poolEvery)
		synctest.Wait()
		a.refused(Request{Campaign: "spring", User: "v"}, gift.Unavailable)
		want(t, "taken", a.stock.of("spring", "cash").Load(), 1)
		// It joins again: what was its share is not, until the ledger says so.
		join()
		time.Sleep(time.Second)
		a.claim(Request{Campaign: "spring", User: "v"})
	})
}

func TestLowStockOverFronts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLender()
		c := testCampaigns()[1]
		s := compileCampaigns(t, c)
		a, b := leasing(t, l, "a", s), leasing(t, l, "b", s)
		a.running()
		b.running()
		given := map[string]int{}
		var order []string
		for i := 0; ; i++ {
			f := []*fixture{a, b}[i%2]
			got, err := f.Claim(t.Context(), Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: user(i)})
			if errors.Is(err, &gift.Error{Code: gift.SoldOut}) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			given[got.Claim.Gift]++
			order = append(order, got.Claim.Gift)
			time.Sleep(20 * time.Millisecond)
		}
		if !maps.Equal(given, map[string]int{"pack": 100, "greeting": 5}) {
			t.Errorf("given %v", given)
		}
		// About ten packs are left when the first greeting is given.
		first := slices.Index(order, "greeting")
		if first < 80 || first > 95 {
			t.Errorf("the first greeting came after %d packs", first)
		}
	})
}

func TestShareOfAClosedCampaignIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLender(), stocked(t, 1000)
		a := leasing(t, l, "a", s)
		a.running()
		a.claim(Request{Campaign: "spring", User: "u"})
		a.clock.move(time.Hour)
		time.Sleep(time.Second)
		want(t, "held", l.held(cash)["a"], 1)
		calls := l.calls.Load()
		time.Sleep(time.Minute)
		want(t, "calls for a closed campaign", l.calls.Load()-calls, 0)
		// So is that of a gift that is configured no more.
		a.clock.move(-time.Hour)
		a.claim(Request{Campaign: "spring", User: "v"})
		a.Reload(compileCampaigns(t, testCampaigns()[1]))
		time.Sleep(time.Second)
		want(t, "held", l.held(cash)["a"], 2)
	})
}
