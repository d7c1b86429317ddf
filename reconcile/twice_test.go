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
	f.append("c", newClaim("late", began))
	f.append("a", otherGift("late", began.Add(time.Hour)))
	for _, rec := range []*fallbacklog.Record{vip, cash} {
		f.event("c", rec, fallbacklog.Granted, fallbacklog.Event{Reference: "R" + rec.Claim.Gift})
	}
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
	if r.Classes.Matched != 2 {
		t.Errorf("%d matched, want the orders of both gifts", r.Classes.Matched)
	}
	var text bytes.Buffer
	f.must(r.WriteText(&text))
	for _, part := range []string{"ALARM: 1 claims", cash.Claim.ID.String() + ": vip and cash"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the text has no %q:\n%s", part, &text)
		}
	}
	b, err := json.Marshal(r.Discrepancies[0])
	f.must(err)
	if !strings.Contains(string(b), `"claim_id":"`+cash.Claim.ID.String()+`"`) || !strings.Contains(string(b), `"gifts":["vip","cash"]`) {
		t.Errorf("JSON %s", b)
	}
	if !strings.Contains(f.said.String(), "ALARM: claims that two nodes accepted") {
		t.Error("no alarm in the log")
	}
	of(began.Add(time.Hour), otherGift("late", began.Add(time.Hour)))
}
