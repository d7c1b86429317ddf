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

// event makes a record of an order of a claim.
func event(of *fallbacklog.Record, kind fallbacklog.Kind, at time.Time, attempts int) *fallbacklog.Record {
	o := of.Claim.Orders[0]
	e := &fallbacklog.Event{Order: o.ID, Claim: of.Claim.ID, Partner: o.Partner, Campaign: "spring", Attempts: attempts, Queries: attempts / 2}
	switch kind {
	case fallbacklog.Granted:
		e.Reference, e.Voucher = fmt.Sprint("ref-", attempts), "v-1"
	case fallbacklog.Deferred, fallbacklog.Unknown:
		e.Due, e.Code, e.Reason = at.Add(time.Minute), "busy", "the partner said so"
	case fallbacklog.Refused, fallbacklog.Parked:
		e.Code, e.Reason = kind.String(), "why"
	case fallbacklog.Reissued:
		e.Attempts, e.Queries, e.Run, e.Due = 0, 0, "run-1", at
	}
	return &fallbacklog.Record{Kind: kind, Time: at, Event: e}
}

// outcomes makes a batch as a follower makes it for a store that wants outcomes.
func outcomes(node string, from fallbacklog.Position, recs ...*fallbacklog.Record) *ledger.Batch {
	b := &ledger.Batch{Node: node, From: from, Outcomes: true}
	for i, rec := range recs {
		rec.At = from + fallbacklog.Position(i)
		b.Add(rec)
	}
	b.Through.Position = from + fallbacklog.Position(len(recs))
	return b
}

func outcomeOfAnotherNode(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	c := claim("ann", "rain", start())
	c.Claim.Orders = append(c.Claim.Orders, gift.Order{ID: c.Claim.ID.OrderID("coin"), Item: "coin", Partner: "pluto", Quantity: 5, Amount: 300, Currency: "CNY"})
	ok(t, l.Apply(t.Context(), outcomes("a", 0, c)))
	late := start().Add(time.Hour)
	ok(t, l.Apply(t.Context(), outcomes("b", 0, event(c, fallbacklog.Deferred, start().Add(time.Second), 1), event(c, fallbacklog.Granted, late, 2))))

	front := o.open(t, "c", time.Now)
	row, err := front.Order(t.Context(), c.Claim.Orders[0].ID)
	ok(t, err)
	equal(t, "what its events say", ledger.Fold(row.Events), row.OrderState)
	row.Events = nil
	equal(t, "order", row, ledger.OrderRow{
		Order:      c.Claim.Orders[0],
		Claim:      ledger.ClaimRow{ID: c.Claim.ID, User: "ann", Campaign: "spring", Scene: "rain", Gift: "vip", ClaimedAt: start(), Node: "a", DeliverBy: c.Claim.DeliverBy},
		OrderState: ledger.OrderState{State: gift.StateGranted, Attempts: 2, Queries: 1, Reference: "ref-2", Voucher: "v-1", Updated: late, Node: "b"},
		AsOf:       start(),
	})
	untried, err := front.Order(t.Context(), c.Claim.Orders[1].ID)
	ok(t, err)
	equal(t, "an order that was not tried", untried.OrderState, ledger.OrderState{State: gift.StateAccepted, Updated: start()})
	equal(t, "its terms", untried.Order, c.Claim.Orders[1])

	standing, err := front.Claim(t.Context(), c.Claim.ID)
	ok(t, err)
	equal(t, "orders of the claim", standing.Claim.Orders, c.Claim.Orders)
	equal(t, "states", standing.Orders, []ledger.OrderState{row.OrderState, untried.OrderState})
	equal(t, "what the claim's events say", ledger.Fold(standing.Events[row.Order.ID]), row.OrderState)
	equal(t, "as of", standing.AsOf, start())
	equal(t, "settled", standing.Settled(), false)

	_, err = front.Order(t.Context(), orderOf("nobody"))
	wantErr(t, err, ledger.ErrNotFound)
	_, err = front.Claim(t.Context(), claim("nobody", "rain", start()).Claim.ID)
	wantErr(t, err, ledger.ErrNotFound)
}

func outcomeBeforeClaim(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	c := claim("ann", "rain", start())
	ok(t, l.Apply(t.Context(), outcomes("b", 0, event(c, fallbacklog.Granted, start().Add(time.Second), 1))))
	id := c.Claim.Orders[0].ID
	row, err := l.Order(t.Context(), id)
	ok(t, err)
	if row.State != gift.StateGranted || row.Claim.ID != c.Claim.ID || row.Claim.Campaign != "spring" || !row.Claim.ClaimedAt.IsZero() || row.Order.Partner != "midas" {
		t.Fatalf("an outcome without its claim reads %+v", row)
	}
	_, err = l.Claim(t.Context(), c.Claim.ID)
	wantErr(t, err, ledger.ErrNotFound)
	ok(t, l.Apply(t.Context(), outcomes("a", 0, c)))
	row, err = l.Order(t.Context(), id)
	ok(t, err)
	equal(t, "user", row.Claim.User, "ann")
	equal(t, "state", row.State, gift.StateGranted)
}

// history makes records of few orders as lanes, people and restarts may leave them.
func history(random *rand.Rand, claims []*fallbacklog.Record, n int) (recs []*fallbacklog.Record) {
	kinds := ledger.OrderKinds()
	attempts := make(map[int]int)
	at := start()
	for range n {
		// Clocks stand still and step back now and then.
		at = at.Add(time.Duration(random.IntN(4)-1) * time.Second)
		i := random.IntN(len(claims))
		attempts[i]++
		recs = append(recs, event(claims[i], kinds[random.IntN(len(kinds))], at, attempts[i]))
	}
	return recs
}

func storiesAgree(t *testing.T, o Opener) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var claims []*fallbacklog.Record
	for i := range 60 {
		claims = append(claims, claim(fmt.Sprint("u", i), "rain", start()))
	}
	log := openLog(t, t.TempDir(), "a")
	ok(t, log.Append(t.Context(), claims...))
	recs := history(random, claims, 600)
	for i := 0; i < len(recs); i += 50 {
		ok(t, log.Append(t.Context(), recs[i:min(i+50, len(recs))]...))
	}
	l := o.open(t, "a", time.Now)
	// Small batches, so that they end anywhere in an order's history.
	f, _ := following(t, ledger.FollowerOptions{Log: log, Store: l, BatchRecords: 17})
	caughtUp(t, f, log)
	type seen struct {
		State                            gift.State
		Open                             bool
		Attempts                         int
		Due                              time.Time
		Reference, Voucher, Code, Reason string
	}
	for _, c := range claims {
		id := c.Claim.Orders[0].ID
		s, err := log.Order(id)
		ok(t, err)
		row, err := l.Order(t.Context(), id)
		ok(t, err)
		want := seen{s.State, s.Open, s.Attempts, s.Due, s.Reference, s.Voucher, s.Code, s.Reason}
		got := seen{row.State, row.Open, row.Attempts, row.Due, row.Reference, row.Voucher, row.Code, row.Reason}
		if s.State.Final() {
			want.Due = time.Time{} // there is no next attempt
		}
		if s.State == gift.StateGranted {
			// What comes after a grant says nothing of the order any more.
			want.Open, want.Attempts, want.Code, want.Reason = false, row.Attempts, "", ""
		}
		if got != want {
			var kinds []string
			for _, rec := range s.Records {
				kinds = append(kinds, rec.Kind.String())
			}
			t.Errorf("after %v:\ngot  %+v\nwant %+v", kinds, got, want)
		}
	}
}

func arrivalDoesNotMatter(t *testing.T, o Opener) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var claims []*fallbacklog.Record
	for i := range 30 {
		claims = append(claims, claim(fmt.Sprint("u", i), "rain", start()))
	}
	nodes := []string{"a", "b", "c"}
	logs := map[string][]*fallbacklog.Record{"a": append(claims[:len(claims):len(claims)], history(random, claims, 80)...)}
	for _, node := range nodes[1:] {
		logs[node] = history(random, claims, 80)
	}
	l := o.open(t, "a", time.Now)
	ask := func() (rows []ledger.OrderRow) {
		for _, c := range claims {
			row, err := l.Order(t.Context(), c.Claim.Orders[0].ID)
			ok(t, err)
			row.AsOf = time.Time{} // what arrived last tells it
			rows = append(rows, row)
		}
		return rows
	}
	var want []ledger.OrderRow
	for range 4 {
		for _, node := range nodes {
			ok(t, l.Reset(t.Context(), node))
		}
		at := map[string]int{}
		for len(at) < len(nodes) || at["a"]+at["b"]+at["c"] < len(logs["a"])+len(logs["b"])+len(logs["c"]) {
			node := nodes[random.IntN(len(nodes))]
			from, to := at[node], min(at[node]+1+random.IntN(20), len(logs[node]))
			ok(t, l.Apply(t.Context(), outcomes(node, fallbacklog.Position(from), logs[node][from:to]...)))
			at[node] = to
		}
		got := ask()
		if want == nil {
			want = got
		}
		equal(t, "orders", got, want)
	}
}

func replayedOutcomes(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	c := claim("ann", "rain", start())
	recs := []*fallbacklog.Record{c, event(c, fallbacklog.Attempted, start(), 1), event(c, fallbacklog.Granted, start(), 1), event(c, fallbacklog.Refused, start().Add(time.Hour), 2)}
	ok(t, l.Apply(t.Context(), outcomes("a", 0, recs...)))
	want, err := l.Order(t.Context(), c.Claim.Orders[0].ID)
	ok(t, err)
	equal(t, "state", want.State, gift.StateGranted)
	wantErr(t, l.Apply(t.Context(), outcomes("a", 0, recs...)), ledger.ErrMoved)
	for _, cut := range []int{1, 2, 3} {
		ok(t, l.Reset(t.Context(), "a"))
		_, err = l.Order(t.Context(), c.Claim.Orders[0].ID)
		wantErr(t, err, ledger.ErrNotFound)
		ok(t, l.Apply(t.Context(), outcomes("a", 0, recs[:cut]...)))
		ok(t, l.Apply(t.Context(), outcomes("a", fallbacklog.Position(cut), recs[cut:]...)))
		got, err := l.Order(t.Context(), c.Claim.Orders[0].ID)
		ok(t, err)
		equal(t, fmt.Sprint("order, cut at ", cut), got, want)
	}
}

// claimWithTwoGifts has b record a claim after a, with another gift of which one item is
// the same; then one of the gifts is fixed, and its first order granted.
func claimWithTwoGifts(t *testing.T, o Opener) {
	for _, gets := range []string{"a", "b"} {
		l := o.open(t, "a", time.Now)
		records := map[string]*fallbacklog.Record{}
		for i, node := range []string{"a", "b"} {
			c := claim("ann to "+gets, "rain", start().Add(time.Duration(i)*time.Second))
			c.Claim.Gift = "gift of " + node
			own := gift.Order{ID: c.Claim.ID.OrderID(node), Item: node, Partner: "pluto", Quantity: 1}
			c.Claim.Orders = append([]gift.Order{own}, c.Claim.Orders...)
			records[node] = c
			ok(t, l.Apply(t.Context(), outcomes(node+gets, 0, c)))
		}
		both := records["a"].Claim.Orders[1].ID
		told := func(when, want string) {
			t.Helper()
			s, err := l.Claim(t.Context(), records["a"].Claim.ID)
			ok(t, err)
			equal(t, "the claim's gift "+when, s.Claim.Gift, want)
			equal(t, "its orders", len(s.Orders), 2)
			row, err := l.Order(t.Context(), both)
			ok(t, err)
			equal(t, "the gift of an order of both "+when, row.Claim.Gift, want)
		}
		told("before anything came of it", "gift of a")

		lost := "b"
		if gets == "b" {
			lost = "a"
		}
		// Of an order of one gift alone that gift is told, whichever stands.
		for node, c := range records {
			row, err := l.Order(t.Context(), c.Claim.Orders[0].ID)
			ok(t, err)
			equal(t, "the item of an order", row.Order.Item, node)
			equal(t, "its gift", row.Claim.Gift, c.Claim.Gift)
		}
		won := event(records[gets], fallbacklog.Granted, start().Add(time.Minute), 1)
		ok(t, l.Apply(t.Context(), outcomes("c"+gets, 0, won)))
		told("once an order was granted", "gift of "+gets)
		ok(t, l.Reset(t.Context(), "c"+gets))

		passed := event(records[lost], fallbacklog.Refused, start().Add(time.Minute), 0)
		passed.Event.Code = ledger.GivenElsewhere
		ok(t, l.Apply(t.Context(), outcomes("d"+gets, 0, passed)))
		told("once the other was passed over", "gift of "+gets)
		s, err := l.Claim(t.Context(), records["a"].Claim.ID)
		ok(t, err)
		equal(t, "what is known of the other gift", len(s.Events[passed.Event.Order]), 1)
	}
}

func strangeTexts(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	c := claim("ann", "rain", start())
	refused := event(c, fallbacklog.Refused, start(), 1)
	refused.Event.Reason, refused.Event.Code = "no\x00thing \xff here; '\\\"", "\x00"
	ok(t, l.Apply(t.Context(), outcomes("a", 0, c, refused)))
	row, err := l.Order(t.Context(), c.Claim.Orders[0].ID)
	ok(t, err)
	equal(t, "reason", row.Reason, "no\uFFFDthing \uFFFD here; '\\\"")
}

func twoFollowers(t *testing.T, o Opener) {
	log := openLog(t, t.TempDir(), "a")
	recs := write(t, log, 1500)
	l, m := o.open(t, "a", time.Now), o.open(t, "b", time.Now)
	f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l, BatchRecords: 40})
	g, stopOther := following(t, ledger.FollowerOptions{Log: log, Store: m, BatchRecords: 70})
	caughtUp(t, f, log)
	caughtUp(t, g, log)
	stop()
	stopOther()
	matches(t, l, "a", recs)
	id := recs[0].Claim.Orders[0].ID
	row, err := m.Order(t.Context(), id)
	ok(t, err)
	equal(t, "state", row.State, gift.StateGranted)
}

func lagOfNodes(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	asOf := func() time.Time {
		t.Helper()
		_, asOf, _, err := l.UserClaims(t.Context(), "ann", ledger.Cursor{}, 1)
		ok(t, err)
		return asOf
	}
	ok(t, l.Apply(t.Context(), outcomes("a", 0, claim("ann", "rain", start()))))
	equal(t, "as of, one node", asOf(), start())
	h := join(t, l, "b")
	equal(t, "as of, with a node of which nothing is known", asOf(), time.Time{})
	ok(t, l.Seen(t.Context(), "b", start().Add(-time.Minute)))
	equal(t, "as of, with a node that is behind", asOf(), start().Add(-time.Minute))
	lags, err := l.Lags(t.Context())
	ok(t, err)
	equal(t, "lags", lags, []ledger.Lag{{Node: "b", AsOf: start().Add(-time.Minute)}, {Node: "a", Position: 1, AsOf: start()}})
	ok(t, l.Leave(t.Context(), h, 0))
	ok(t, l.Retire(t.Context(), "b", "ana"))
	equal(t, "as of, with a node that was retired", asOf(), start())

	// Nobody sees a time go back.
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := l.Seen(t.Context(), "a", start().Add(time.Duration(i)*time.Second)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "as of, after many saw it", asOf(), start().Add(7*time.Second))
}

func lagOfNodeThatLeft(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	lags := func() (nodes []string, asOf time.Time) {
		t.Helper()
		lags, err := l.Lags(ctx)
		ok(t, err)
		for _, lag := range lags {
			nodes = append(nodes, lag.Node)
		}
		_, asOf, _, err = l.UserClaims(ctx, "ann", ledger.Cursor{}, 1)
		ok(t, err)
		return nodes, asOf
	}
	a, b := join(t, l, "a"), join(t, l, "b")
	ok(t, l.Apply(ctx, outcomes("b", 0, claim("bob", "rain", start()))))
	ok(t, l.Apply(ctx, outcomes("a", 0, claim("ann", "rain", start().Add(time.Hour)))))
	ok(t, l.Leave(ctx, b, 2)) // of which 1 has been taken in
	nodes, asOf := lags()
	equal(t, "nodes that are waited for", nodes, []string{"b", "a"})
	equal(t, "as of, with a log whose end is missing", asOf, start())

	ok(t, l.Apply(ctx, outcomes("b", 1, claim("ann", "snow", start().Add(time.Minute)))))
	nodes, asOf = lags()
	equal(t, "nodes that are waited for", nodes, []string{"a"})
	equal(t, "as of, with a node that has left", asOf, start().Add(time.Hour))

	// It is back, and may have accepted more.
	b = join(t, l, "b")
	_, asOf = lags()
	equal(t, "as of, with a node that is back", asOf, start().Add(time.Minute))
	ok(t, l.Leave(ctx, b, 2))
	ok(t, l.Leave(ctx, a, 1))
	nodes, asOf = lags()
	equal(t, "nodes that are waited for", len(nodes), 0)
	equal(t, "as of, where all have left", asOf, start().Add(time.Hour))
}

// emptyLog has nothing to take in, and its node leaves nobody waiting for it.
func emptyLog(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	log := openLog(t, t.TempDir(), "a")
	f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
	caughtUp(t, f, log)
	stop()
	at, err := l.Position(t.Context(), "a")
	ok(t, err)
	equal(t, "the place of a log without records", at, log.End())
}
