package reconcile

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"manna/gift"
)

// weigh notes the claims whose stock is to be weighed.
func (f *fleet) weigh(_ context.Context, claims []gift.ClaimID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.weighed = append(f.weighed, claims...)
	return nil
}

// Claims that several nodes recorded are handed over, each once by the run that looks at
// them, and none by a dry run.
func TestClaimsThatSeveralNodesRecordedAreWeighed(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	began := f.at
	var want []gift.ClaimID
	for i := range weighedAtOnce + 10 {
		same := newClaim(fmt.Sprint("same", i), began)
		f.append("a", same)
		f.append("b", newClaim(fmt.Sprint("same", i), began))
		want = append(want, same.Claim.ID)
	}
	other := newClaim("other", began)
	f.append("a", other)
	f.append("b", otherGift("other", began))
	f.append("c", newClaim("one", began))
	want = append(want, other.Claim.ID)
	for _, node := range []string{"a", "b", "c"} {
		f.feed(node)
	}
	f.settle()
	q := Slot(began)
	q.DryRun = true
	f.run(q)
	if len(f.weighed) > 0 {
		t.Errorf("a dry run had %d claims weighed", len(f.weighed))
	}
	q.DryRun = false
	f.run(q)
	compare := func(a, b gift.ClaimID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(want, compare)
	slices.SortFunc(f.weighed, compare)
	if !slices.Equal(f.weighed, want) {
		t.Errorf("%d claims are weighed, want %d", len(f.weighed), len(want))
	}
}
