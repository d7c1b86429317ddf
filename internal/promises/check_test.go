package promises_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/promises"
)

var noon = time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)

// night is evidence that can be bent: three claims, all granted and in the books.
type night struct {
	records   []*fallbacklog.Record
	elsewhere []*fallbacklog.Record // of another node's log
	books     map[gift.OrderID]int
	arrivals  int
	accepted  map[gift.ClaimID]bool
	stock     int64
	soldOut   map[string]bool
	damage    error
}

func newNight() *night {
	n := &night{books: make(map[gift.OrderID]int), accepted: make(map[gift.ClaimID]bool), soldOut: make(map[string]bool), arrivals: 3}
	for _, user := range []string{"a", "b", "c"} {
		c := claim(user)
		n.accepted[c.ID] = true
		n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Granted, c))
		n.books[c.Orders[0].ID] = 1
	}
	return n
}

func claim(user string) *gift.Claim { return claimOf(user, "g") }

// claimOf makes the claim that gives a user one of the campaign's gifts.
func claimOf(user, name string) *gift.Claim {
	k := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: time.Hour}
	g := &gift.Gift{Name: name, Items: []gift.Item{{Name: "i-of-" + name, Partner: "p", Quantity: 1}}}
	return k.NewClaim(k.ID.ClaimID("", user, ""), "", "", user, g, "", nil, noon)
}

func event(kind fallbacklog.Kind, c *gift.Claim) *fallbacklog.Record {
	return &fallbacklog.Record{Kind: kind, Time: noon, Event: &fallbacklog.Event{Order: c.Orders[0].ID, Claim: c.ID, Campaign: "k", Partner: "p", Attempts: 1}}
}

func (n *night) check(t *testing.T) *promises.Verdict {
	t.Helper()
	log := func(records []*fallbacklog.Record, damage error) iter.Seq2[*fallbacklog.Record, error] {
		return func(yield func(*fallbacklog.Record, error) bool) {
			for _, rec := range records {
				if !yield(rec, nil) {
					return
				}
			}
			if damage != nil {
				yield(nil, damage)
			}
		}
	}
	var grants []string
	for id, count := range n.books {
		grants = append(grants, fmt.Sprintf(`{"order_id":%q,"count":%d,"first_at":"2027-02-05T12:00:00Z","reference":"r"}`, id, count))
	}
	slices.Sort(grants) // books are kept by order id
	// The arrivals lie 1 ms apart, all within one second.
	deltas := make([]string, n.arrivals)
	for i := range deltas {
		deltas[i] = fmt.Sprint(int64(time.Millisecond))
	}
	text := fmt.Sprintf(`{"partner":"p","rate":0,"started_at":"2027-02-05T11:59:00Z","arrivals":%d,"calls":{},"grants":[%s],"arrival_deltas":[%s]}`, n.arrivals, strings.Join(grants, ","), strings.Join(deltas, ","))
	books, err := partnertest.ReadBooks(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return promises.Check(promises.Evidence{
		Logs: []iter.Seq2[*fallbacklog.Record, error]{log(n.elsewhere, nil), log(n.records, n.damage)}, Books: []*partnertest.Books{books}, Rates: map[string]gift.Rate{"p": 10},
		Accepted: n.accepted, SoldOut: n.soldOut,
		Campaigns: []*gift.Campaign{{Name: "k", Gifts: []*gift.Gift{{Name: "g", Stock: n.stock}}}},
	})
}

// Each row breaks one promise in one way: the checker must say which.
func TestEveryBrokenPromiseIsSeen(t *testing.T) {
	for name, row := range map[string]struct {
		bend   func(*night)
		broken int // number of the promise; 0: none
	}{
		"all is well":                          {func(*night) {}, 0},
		"a claim answered 202 is not logged":   {func(n *night) { n.accepted[claim("d").ID] = true }, 1},
		"granted in the log, not in the books": {func(n *night) { delete(n.books, claim("a").Orders[0].ID) }, 1},
		"an order never ends": {func(n *night) {
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: claim("d")})
		}, 1},
		"doubled in the books":             {func(n *night) { n.books[claim("a").Orders[0].ID] = 2 }, 2},
		"thirty calls in a second at 10/s": {func(n *night) { n.arrivals = 30 }, 3},
		"a grant without a claim":          {func(n *night) { n.books[claim("stranger").Orders[0].ID] = 1 }, 4},
		"refused in the log, granted in the books": {func(n *night) {
			c := claim("d")
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Refused, c))
			n.books[c.Orders[0].ID] = 1
		}, 4},
		"more given than there were":    {func(n *night) { n.stock = 2 }, 5},
		"called sold out with one left": {func(n *night) { n.stock, n.soldOut["k/g"] = 4, true }, 5},
		"the log is damaged":            {func(n *night) { n.damage = errors.New("corrupt at offset 7") }, 6},
		"parked is accounted for": {func(n *night) {
			c := claim("d")
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Parked, c))
		}, 0},
		"a refused gift may be given again": {func(n *night) {
			n.stock = 3
			c := claim("d")
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Refused, c),
				&fallbacklog.Record{Kind: fallbacklog.Returned, Stock: &fallbacklog.Stock{Campaign: "k", Gift: "g", Count: 1}})
		}, 0},
		"a granted gift goes back and is given again": {func(n *night) {
			n.stock = 2
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Returned, Stock: &fallbacklog.Stock{Campaign: "k", Gift: "g", Count: 1}})
		}, 5},
		"an outcome in another log than its claim": {func(n *night) {
			n.elsewhere = []*fallbacklog.Record{n.records[1]}
			n.records = slices.Delete(n.records, 1, 2)
		}, 0},
		"a late copy is deferred by another node": {func(n *night) {
			late := event(fallbacklog.Deferred, claim("a"))
			late.Time = noon.Add(time.Minute)
			n.elsewhere = []*fallbacklog.Record{late}
		}, 0},
		"a late copy of a refused order is deferred": {func(n *night) {
			c := claim("d")
			n.records = append(n.records, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Refused, c))
			late := event(fallbacklog.Deferred, c)
			late.Time = noon.Add(time.Minute)
			n.elsewhere = []*fallbacklog.Record{late}
		}, 0},
		"two nodes give a claim different gifts, both granted": {func(n *night) {
			c := claimOf("a", "h")
			n.elsewhere = []*fallbacklog.Record{{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Granted, c)}
			n.books[c.Orders[0].ID] = 1
		}, 2},
		"two nodes give a claim different gifts, one refused": {func(n *night) {
			c := claimOf("a", "h")
			n.elsewhere = []*fallbacklog.Record{{Kind: fallbacklog.Claimed, Time: noon, Claim: c}, event(fallbacklog.Refused, c)}
		}, 0},
		"two nodes give a claim different gifts, one lost": {func(n *night) {
			n.elsewhere = []*fallbacklog.Record{{Kind: fallbacklog.Claimed, Time: noon, Claim: claimOf("a", "h")}}
		}, 1},
		"two nodes give a claim the same gift": {func(n *night) {
			n.elsewhere = []*fallbacklog.Record{{Kind: fallbacklog.Claimed, Time: noon, Claim: claim("a")}}
		}, 0},
		"an outcome that no log has a claim for": {func(n *night) { n.records = slices.Delete(n.records, 0, 1); delete(n.accepted, claim("a").ID) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNight()
			row.bend(n)
			v := n.check(t)
			for _, p := range v.Promises {
				if want := p.Number != row.broken; p.Kept != want {
					t.Errorf("promise %d kept %t, want %t: %s", p.Number, p.Kept, want, p.Detail)
				}
			}
			if v.Kept() != (row.broken == 0) {
				t.Errorf("Kept() is %t", v.Kept())
			}
		})
	}
}
