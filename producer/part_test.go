package producer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
)

// A front that is claimed from less, or not at all, gives what it holds to those that
// are.
func TestSparedStockGoesToOthers(t *testing.T) {
	for name, every := range map[string]time.Duration{"idle": 0, "slow": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total = 120
				l, s := newLender(), stocked(t, total)
				a, b := leasing(t, l, "a", s), leasing(t, l, "b", s)
				a.running()
				b.running()
				b.claim(Request{Campaign: "spring", User: "b"})
				held := l.held(cash)["b"]
				n, end := a.drain("a")
				want(t, "ended with", end, gift.SoldOut)
				const seconds = 20
				claims := 1
				for i := range seconds {
					time.Sleep(poolEvery)
					more, _ := a.drain("a" + user(i))
					n += more
					if every > 0 {
						b.Claim(t.Context(), Request{Campaign: "spring", User: "b" + user(i)})
						claims++
					}
				}
				// One or two may be left where claims are slow to come.
				if n+claims < total-2 {
					t.Errorf("%d claims at a, %d at b, which held %d at first", n, claims, held)
				}
			})
		})
	}
}

// What the ledger may have given to others is not handed out, from the moment on in
// which that is possible.
func TestShareInDoubtIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(l *lender, a *fixture, h *ledger.Holder)
		left    int64 // once the ledger answers again, and before more is leased
	}{
		"a return whose answer is lost": {func(l *lender, a *fixture, h *ledger.Holder) {
			l.set(func() fault { return lags })
			a.part().giveBack(context.Background(), *h, 5)
		}, 5},
		"the node has joined anew": {func(l *lender, a *fixture, h *ledger.Holder) {
			l.set(func() fault { return fails })
			h.Epoch, _ = l.Join(context.Background(), ledger.Process{Node: "a"})
		}, 0},
		"the node was given up": {func(l *lender, a *fixture, h *ledger.Holder) {
			l.Lose(context.Background(), "a", "ana")
			a.part().sure = false // something is to be asked
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := newLender(), stocked(t, 1000)
			leases := joined(t, l, "a")
			h, _ := leases.Holder()
			leases.Holder = func() (ledger.Holder, error) { return h, nil }
			a := openNode(t, "a", crashdisk.New(1), "/data", func(o *Options) { o.Snapshot, o.Leases = s, leases })
			n := a.stock.of("spring", "cash")
			n.grasp(1000) // a claim that finds nothing yet
			a.stock.lessor.round(t.Context())
			if n.left() <= 5 {
				t.Fatalf("%d are leased", n.left())
			}
			c.happens(l, a, &h)
			a.stock.lessor.round(t.Context())
			want(t, "left in doubt", n.left(), c.left)
			l.set(nil)
			l.arrive()
			a.stock.lessor.rest = time.Time{}
			a.stock.lessor.round(t.Context())
			if held := l.held(cash)["a"]; n.left() > held {
				t.Errorf("%d may be handed out, the ledger says %d", n.left(), held)
			}
		})
	}
}

// part is what the lessor knows of the gift of campaign spring.
func (f *fixture) part() *part { return f.stock.lessor.parts[stockKey{"spring", "cash"}] }
