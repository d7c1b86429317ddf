package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// pack makes the record of a claim of several orders.
func pack(user string, items int) *fallbacklog.Record {
	rec := claim(user, "rain", start())
	rec.Claim.Orders = nil
	for i := range items {
		name := fmt.Sprint("item-", i)
		rec.Claim.Orders = append(rec.Claim.Orders, gift.Order{ID: rec.Claim.ID.OrderID(name), Item: name, Partner: "midas", Quantity: 1})
	}
	return rec
}

// eventOf makes a record of one of a pack's orders.
func eventOf(of *fallbacklog.Record, item int, kind fallbacklog.Kind, at time.Time) *fallbacklog.Record {
	rec := event(of, kind, at, 1)
	rec.Event.Order = of.Claim.Orders[item].ID
	return rec
}

// ownRefund makes the record by which a node puts a claim's gift into a stock of its
// own.
func ownRefund(of *fallbacklog.Record) *fallbacklog.Record {
	return &fallbacklog.Record{Kind: fallbacklog.Returned, Time: start(), Stock: &fallbacklog.Stock{Campaign: "spring", Gift: "vip", Count: 1, Claim: of.Claim.ID}}
}

// refunded lets everything be weighed and tells how much has come back.
func refunded(t *testing.T, l ledger.Stock) int64 {
	t.Helper()
	for {
		const limit = 3
		n, err := l.RefundRefused(t.Context(), limit)
		ok(t, err)
		if n < limit {
			break
		}
	}
	p, _, err := l.Leases(t.Context(), vip)
	ok(t, err)
	return p.Refunded
}

func refusedClaims(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	late := start().Add(time.Hour)
	one, two := fallbacklog.Refused, fallbacklog.Granted
	for i, row := range []struct {
		name string
		logs []func(of *fallbacklog.Record) []*fallbacklog.Record // one node's after the other's
		want bool
	}{
		{"refused by one node", lists(own, just(0, one, start()), just(1, one, start())), true},
		{"its claim comes last", lists(just(0, one, start()), just(1, one, start()), own), true},
		{"one order is open", lists(own, just(0, one, start())), false},
		{"one order is granted", lists(own, just(0, one, start()), just(1, two, start())), false},
		{"one order is parked", lists(own, just(0, one, start()), just(1, fallbacklog.Parked, start())), false},
		{"a late copy is deferred elsewhere", lists(own, just(0, one, start()), just(1, one, start()), just(1, fallbacklog.Deferred, late)), true},
		{"deferred first, by a clock that is ahead", lists(own, just(0, fallbacklog.Deferred, late), just(0, one, start()), just(1, one, start())), true},
		{"refused here and granted there", lists(own, just(0, two, start()), just(0, one, late), just(1, one, start())), false},
		{"its node has put it back itself", lists(func(of *fallbacklog.Record) []*fallbacklog.Record {
			return []*fallbacklog.Record{of, ownRefund(of), eventOf(of, 0, one, start()), eventOf(of, 1, one, start())}
		}), false},
	} {
		of := pack(fmt.Sprint("u", i), 2)
		before := refunded(t, l)
		for j, log := range row.logs {
			ok(t, l.Apply(t.Context(), outcomes(fmt.Sprint("node-", i, "-", j), 0, log(of)...)))
			c.advance(2 * time.Hour) // past any pause before it is looked at again
			refunded(t, l)
		}
		var want int64
		if row.want {
			want = 1
		}
		equal(t, row.name+": refunded", refunded(t, l)-before, want)
	}
}

func lists[T any](of ...T) []T { return of }

func own(of *fallbacklog.Record) []*fallbacklog.Record { return []*fallbacklog.Record{of} }

func just(item int, kind fallbacklog.Kind, at time.Time) func(of *fallbacklog.Record) []*fallbacklog.Record {
	return func(of *fallbacklog.Record) []*fallbacklog.Record {
		return []*fallbacklog.Record{eventOf(of, item, kind, at)}
	}
}

func refundedOnce(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	ctx := t.Context()
	of := pack("ann", 1)
	recs := []*fallbacklog.Record{of, eventOf(of, 0, fallbacklog.Refused, start())}
	ok(t, l.Refund(ctx, []ledger.Refund{{StockKey: vip, Claim: of.Claim.ID, Count: 1}}))
	ok(t, l.Apply(ctx, outcomes("a", 0, recs...)))
	equal(t, "refunded before and refused", refunded(t, l), 1)
	// The log is taken in anew, and the claim is in another's too.
	ok(t, l.Reset(ctx, "a"))
	ok(t, l.Apply(ctx, outcomes("a", 0, recs...)))
	equal(t, "refunded after a rebuild", refunded(t, l), 1)
}

// recordedTwice has nodes record claims that another has recorded: each took a gift.
func recordedTwice(t *testing.T, o Opener) {
	ctx := t.Context()
	other := func(of *fallbacklog.Record) *fallbacklog.Record {
		rec := pack(of.Claim.User, 0)
		rec.Claim.Gift = "other"
		rec.Claim.Orders = []gift.Order{{ID: rec.Claim.ID.OrderID("other"), Item: "other", Partner: "midas", Quantity: 1}}
		return rec
	}
	refuse := func(recs ...*fallbacklog.Record) (all []*fallbacklog.Record) {
		for _, rec := range recs {
			for item := range rec.Claim.Orders {
				all = append(all, eventOf(rec, item, fallbacklog.Refused, start()))
			}
		}
		return all
	}
	for i, row := range []struct {
		name       string
		logs       func(of *fallbacklog.Record) [][]*fallbacklog.Record // one node's after the other's
		vip, other int64
	}{
		{"the same gift, and it is given", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}, {of, eventOf(of, 0, fallbacklog.Granted, start())}}
		}, 1, 0},
		{"the same gift by three, on its way", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}, {of}, {of}}
		}, 2, 0},
		{"the same gift, and it is refused", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}, append([]*fallbacklog.Record{of}, refuse(of)...)}
		}, 2, 0},
		{"another gift, and that is refused", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}, append([]*fallbacklog.Record{other(of)}, refuse(other(of))...)}
		}, 0, 1},
		{"another gift, and the first is refused", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{other(of), eventOf(other(of), 0, fallbacklog.Granted, start())}, append([]*fallbacklog.Record{of}, refuse(of)...)}
		}, 1, 0},
		{"another gift, and both are refused", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}, append([]*fallbacklog.Record{other(of)}, refuse(of, other(of))...)}
		}, 1, 1},
		{"one node", func(of *fallbacklog.Record) [][]*fallbacklog.Record {
			return [][]*fallbacklog.Record{{of}}
		}, 0, 0},
	} {
		l := o.open(t, "a", time.Now)
		rest := func() (vips, others int64) {
			t.Helper()
			vips = refunded(t, l)
			p, _, err := l.Leases(ctx, ledger.StockKey{Campaign: vip.Campaign, Gift: "other"})
			ok(t, err)
			return vips, p.Refunded
		}
		beforeVip, beforeOther := rest()
		of := pack(fmt.Sprint("twice", i), 2)
		for j, log := range row.logs(of) {
			ok(t, l.Apply(ctx, outcomes(fmt.Sprint("node-", i, "-", j), 0, log...)))
			rest()
		}
		for range 2 {
			ok(t, l.Weigh(ctx, []gift.ClaimID{of.Claim.ID}))
			vips, others := rest()
			equal(t, row.name+": refunded", vips-beforeVip, row.vip)
			equal(t, row.name+": the other refunded", others-beforeOther, row.other)
		}
	}
}

// refundsFollow has three nodes refuse orders of each other's claims, and all of them
// refund, while their logs are taken in in pieces and now and then anew.
func refundsFollow(t *testing.T, o Opener) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const nodes, packs = 3, 120
	logs := make([][]*fallbacklog.Record, nodes)
	var whole int64
	for i := range packs {
		of := pack(fmt.Sprint("u", i), 1+random.IntN(3))
		add := func(rec *fallbacklog.Record) (node int) {
			node = random.IntN(nodes)
			logs[node] = append(logs[node], rec)
			return node
		}
		add(of)
		refusedAll := true
		for item := range of.Claim.Orders {
			kind := fallbacklog.Refused
			if random.IntN(4) == 0 {
				kind, refusedAll = fallbacklog.Granted, false
			}
			node := add(eventOf(of, item, kind, start()))
			if random.IntN(3) == 0 {
				// Within a log nothing follows on a refusal.
				other := (node + 1) % nodes
				logs[other] = append(logs[other], eventOf(of, item, fallbacklog.Deferred, start().Add(time.Second)))
			}
		}
		if refusedAll {
			whole++
		}
	}
	for _, log := range logs {
		random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
	}
	c := newClock()
	var following, refunding sync.WaitGroup
	followed := make(chan struct{})
	for i, log := range logs {
		node := fmt.Sprint("node-", i)
		l := o.open(t, node, c.now)
		following.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)+1))
			for at, again := 0, 1; at < len(log); {
				to := min(at+1+random.IntN(12), len(log))
				if err := l.Apply(t.Context(), outcomes(node, fallbacklog.Position(at), log[at:to]...)); err != nil {
					t.Error(err)
					return
				}
				at = to
				if again > 0 && at > len(log)/2 {
					if err := l.Reset(t.Context(), node); err != nil {
						t.Error(err)
						return
					}
					at, again = 0, again-1
				}
			}
		})
		refunding.Go(func() {
			for ended := false; !ended; {
				select {
				case <-followed:
					ended = true
				default:
				}
				if _, err := l.RefundRefused(t.Context(), 5); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	following.Wait()
	close(followed)
	refunding.Wait()
	l := o.open(t, "last", c.now)
	// Those whose claim was not known yet are looked at again in a while.
	c.advance(2 * time.Hour)
	equal(t, "refunded", refunded(t, l), whole)
	c.advance(2 * time.Hour)
	n, err := l.RefundRefused(t.Context(), 1)
	ok(t, err)
	equal(t, "left to be weighed", n, 0)
}
