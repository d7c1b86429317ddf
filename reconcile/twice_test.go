package reconcile

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// otherGift makes the claim of a user as a node records it that gives another gift.
func otherGift(user string, at time.Time) *fallbacklog.Record {
	rec := newClaim(user, at)
	c := rec.Claim
	c.Gift = "cash"
	c.Orders = []gift.Order{{ID: c.ID.OrderID("cash-1"), Item: "cash-1", Partner: "midas", Quantity: 1, Amount: 100, Currency: "CNY"}}
	return rec
}

// among makes a claim of a gift with several items.
func among(user, name string, at time.Time, items ...string) *fallbacklog.Record {
	rec := newClaim(user, at)
	rec.Claim.Gift, rec.Claim.Orders = name, nil
	for _, item := range items {
		rec.Claim.Orders = append(rec.Claim.Orders, gift.Order{ID: rec.Claim.ID.OrderID(item), Item: item, Partner: "midas", Quantity: 1})
	}
	return rec
}

// ends writes down, on node c, what became of the orders of claims.
func (f *fleet) ends(kind fallbacklog.Kind, claims ...*fallbacklog.Record) {
	f.t.Helper()
	for _, rec := range claims {
		f.event("c", rec, kind, fallbacklog.Event{Reference: "R" + rec.Claim.Gift})
	}
}

func TestClaimThatTwoNodesGiveDifferentGiftsIsReported(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	began := f.at
	vip, cash := newClaim("both", began), otherGift("both", began.Add(time.Minute))
	f.append("a", vip)
	f.append("b", cash)
	f.append("a", newClaim("same", began)) // the same gift twice is no break
	f.append("c", newClaim("same", began))
	// A slot later, at the node that reconciles.
	early, late := newClaim("late", began), otherGift("late", began.Add(time.Hour))
	f.append("c", early)
	f.append("a", late)
	f.ends(fallbacklog.Granted, vip, cash, early, late)
	for _, node := range []string{"a", "b", "c"} {
		f.feed(node)
	}
	f.pass(2 * time.Hour)
	f.settle()
	of := func(slot time.Time, second *fallbacklog.Record) *Report {
		t.Helper()
		q := Slot(slot)
		q.DryRun = true
		r := f.run(q)
		var found []Discrepancy
		for _, d := range r.Discrepancies {
			if d.Class == Duplicate {
				found = append(found, d)
			}
		}
		c := second.Claim
		if len(found) != 1 || found[0].ClaimID != c.ID || !slices.Equal(found[0].Gifts, []string{"vip", "cash"}) || found[0].OrderID != c.Orders[0].ID ||
			found[0].Partner != "midas" || found[0].Campaign != "spring" || found[0].Amount != 100 || !found[0].At.Equal(c.ClaimedAt) {
			t.Fatalf("slot %v: %+v", slot, found)
		}
		if r.GivenTwice != 1 || r.Classes.Duplicate != 0 || r.Found != r.Classes.Discrepancies()+1 || !r.Wrong() {
			t.Errorf("slot %v: %d given twice, %d found, %+v", slot, r.GivenTwice, r.Found, r.Classes)
		}
		return r
	}
	r := of(began, cash)
	if r.Classes.Matched != 3 {
		t.Errorf("%d matched, want the orders of both gifts, and that of the first of the late claim", r.Classes.Matched)
	}
	var text bytes.Buffer
	f.must(r.WriteText(&text))
	for _, part := range []string{"ALARM: 1 claims given two gifts", cash.Claim.ID.String() + ": vip and cash"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the text has no %q:\n%s", part, &text)
		}
	}
	b, err := json.Marshal(r.Discrepancies[0])
	f.must(err)
	if !strings.Contains(string(b), `"claim_id":"`+cash.Claim.ID.String()+`"`) || !strings.Contains(string(b), `"gifts":["vip","cash"]`) {
		t.Errorf("JSON %s", b)
	}
	if !strings.Contains(f.said.String(), "ALARM: claims that were given two gifts") {
		t.Error("no alarm in the log")
	}
	of(began.Add(time.Hour), late)
}

// A claim that nodes recorded with different gifts is no break where it was given one.
func TestClaimThatWasRecordedTwiceAndGivenOnceIsNoBreak(t *testing.T) {
	const granted, refused, parked = fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Parked
	at := ten.From
	for name, c := range map[string]struct {
		first, other *fallbacklog.Record
		// ended is what became of each item's order.
		ended map[string]fallbacklog.Kind
		gifts []string
	}{
		"the first was granted": {among("u", "vip", at, "a"), among("u", "cash", at, "b"), map[string]fallbacklog.Kind{"a": granted, "b": refused}, nil},
		"the other was granted": {among("u", "vip", at, "a"), among("u", "cash", at, "b"), map[string]fallbacklog.Kind{"a": refused, "b": granted}, nil},
		"neither was":           {among("u", "vip", at, "a"), among("u", "cash", at, "b"), map[string]fallbacklog.Kind{"a": refused, "b": parked}, nil},
		"one is on its way":     {among("u", "vip", at, "a"), among("u", "cash", at, "b"), map[string]fallbacklog.Kind{"a": granted}, nil},
		"both have what was":    {among("u", "vip", at, "a", "b"), among("u", "cash", at, "b"), map[string]fallbacklog.Kind{"a": refused, "b": granted}, nil},
		"the larger was":        {among("u", "cash", at, "b"), among("u", "vip", at, "a", "b"), map[string]fallbacklog.Kind{"a": granted, "b": granted}, nil},
		"both were, in part": {among("u", "vip", at, "a", "b"), among("u", "cash", at, "b", "c"),
			map[string]fallbacklog.Kind{"a": granted, "b": granted, "c": granted}, []string{"vip", "cash"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "a", "b", "c")
			defer f.close()
			f.append("a", c.first)
			f.append("b", c.other)
			for _, rec := range []*fallbacklog.Record{c.first, c.other} {
				for _, o := range rec.Claim.Orders {
					if kind := c.ended[o.Item]; kind != 0 {
						f.ends(kind, among("u", rec.Claim.Gift, at, o.Item))
						delete(c.ended, o.Item)
					}
				}
			}
			f.settle()
			q := Slot(at)
			q.DryRun = true
			r := f.run(q)
			var gifts []string
			for _, d := range r.Discrepancies {
				gifts = append(gifts, d.Gifts...)
			}
			if !slices.Equal(gifts, c.gifts) || r.GivenTwice != int64(len(c.gifts)/2) || r.Classes.Duplicate != 0 {
				t.Errorf("got %q, %d given twice, %+v", gifts, r.GivenTwice, r.Classes)
			}
		})
	}
}
