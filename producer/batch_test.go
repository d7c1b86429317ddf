package producer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
)

func TestBatchAnswersEachClaimWithOneCommit(t *testing.T) {
	f, d := crashing(t)
	f.claim(Request{Campaign: "spring", User: "known"})
	before := d.Ops()[crashdisk.OpSync]
	results := f.ClaimBatch(context.Background(), []Request{
		{Campaign: "spring", User: "a"},
		{Campaign: "spring", User: "known"},
		{Campaign: "winter", User: "b"},
		{Campaign: "spring", User: "a"},
		{Campaign: "spring", User: "c", Target: []byte("7")},
		{Campaign: "spring", User: "d"},
	})
	want(t, "syncs", d.Ops()[crashdisk.OpSync]-before, 1)
	type outcome struct {
		duplicate bool
		code      gift.Code
	}
	for i, w := range []outcome{{}, {true, ""}, {false, gift.CampaignUnknown}, {true, ""}, {false, gift.BadRequest}, {}} {
		got := outcome{duplicate: results[i].Answer.Duplicate}
		if told, ok := errors.AsType[*gift.Error](results[i].Err); ok {
			got.code = told.Code
		}
		want(t, "result", got, w)
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), 3)
}

func TestBatchesOverTheSameClaimsDoNotBlockEachOther(t *testing.T) {
	f := openFixture(t)
	const n = 50
	forward, backward := make([]Request, n), make([]Request, n)
	for i := range n {
		forward[i] = Request{Campaign: "spring", User: user(i)}
		backward[n-1-i] = forward[i]
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			reqs := forward
			if i%2 == 1 {
				reqs = backward
			}
			for _, r := range f.ClaimBatch(context.Background(), reqs) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	wg.Wait()
	want(t, "records", len(f.records(fallbacklog.Claimed)), n)
	want(t, "taken", f.stock.of("spring", "cash").Load(), n)
}

func TestFailedBatchLeavesNothingBehind(t *testing.T) {
	c := testCampaigns()[0]
	c.Gifts[0].Stock = 10
	f, d := crashing(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	fillLog(t, f, d)
	reqs := []Request{{Campaign: "spring", User: "a"}, {Campaign: "spring", User: "b"}, {Campaign: "spring", User: "a"}}
	for i, r := range f.ClaimBatch(context.Background(), reqs) {
		if !errors.Is(r.Err, &gift.Error{Code: gift.Unavailable}) {
			t.Errorf("claim %d: got %v", i, r.Err)
		}
	}
	left := f.left("spring", "cash")
	want(t, "left", left, 10)
	d.SetCapacity(1 << 40)
	for i, r := range f.ClaimBatch(context.Background(), reqs) {
		if r.Err != nil || r.Answer.Duplicate != (i == 2) {
			t.Errorf("claim %d: %+v, %v", i, r.Answer, r.Err)
		}
	}
	left = f.left("spring", "cash")
	want(t, "left", left, 8)
}

func TestBatchRespectsTheLimitWithinItself(t *testing.T) {
	f := openFixture(t)
	var reqs []Request
	for _, stage := range []string{"s1", "s2", "s3"} {
		reqs = append(reqs, Request{Campaign: "show", Scene: "first", Stage: stage, Gift: "pad", Platform: "ios", User: "u"})
	}
	results := f.ClaimBatch(context.Background(), reqs)
	if results[0].Err != nil || results[1].Err != nil || !errors.Is(results[2].Err, &gift.Error{Code: gift.LimitReached}) {
		t.Errorf("results %+v", results)
	}
}

// A claim that is refused for its gift does not count against its user's limit, in a
// batch as by itself.
func TestBatchLeavesTheLimitToWhatIsAccepted(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			show := testCampaigns()[1]
			show.ClaimsPerUser, show.Gifts[1].Stock = 1, 1
			f := openFixture(t, func(o *Options) {
				o.Snapshot = compileCampaigns(t, show)
				if shared {
					o.Guard = steadfast{newMemoryGuard()}
				}
			})
			ask := func(user, stage, gift string) Request {
				return Request{Campaign: "show", Scene: "first", Stage: stage, Gift: gift, User: user, Platform: "ios"}
			}
			f.claim(ask("other", "s1", "greeting"))
			results := f.ClaimBatch(t.Context(), []Request{ask("u", "s1", "greeting"), ask("u", "s2", "duo"), ask("u", "s3", "duo")})
			if !errors.Is(results[0].Err, &gift.Error{Code: gift.SoldOut}) || results[1].Err != nil || !errors.Is(results[2].Err, &gift.Error{Code: gift.LimitReached}) {
				t.Errorf("results %+v", results)
			}
		})
	}
}

// crowd is a guard that answers once so many ask it at a time.
type crowd struct {
	Guard
	enough  int64
	asking  atomic.Int64
	arrived chan struct{}
}

func (c *crowd) Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error) {
	if c.asking.Add(1) == c.enough {
		close(c.arrived)
	}
	select {
	case <-c.arrived:
	case <-ctx.Done():
		return Reservation{}, ctx.Err()
	}
	return c.Guard.Reserve(ctx, id, siblings, limit)
}

func TestBatchAsksASharedGuardAboutManyUsersAtATime(t *testing.T) {
	c := &crowd{Guard: newMemoryGuard(), enough: parallel, arrived: make(chan struct{})}
	f := openFixture(t, func(o *Options) { o.Guard = steadfast{c} })
	var reqs []Request
	for i := range parallel {
		reqs = append(reqs, Request{Campaign: "spring", User: user(i)}, Request{Campaign: "spring", User: user(i)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, r := range f.ClaimBatch(ctx, reqs) {
		if r.Err != nil || r.Answer.Duplicate != (i%2 == 1) {
			t.Errorf("claim %d: %+v, %v", i, r.Answer, r.Err)
		}
	}
}

// Without the guard each claim is looked for in the ledger, which has few slots for all
// requests together.
func TestBatchAsksTheLedgerAsOneRequest(t *testing.T) {
	books := newBooks()
	books.is(nil, true)
	f := openFixture(t, func(o *Options) {
		o.Guard, o.Elsewhere = steadfast{brokenGuard{newMemoryGuard()}}, books
	})
	var reqs []Request
	for i := range 2 * parallel {
		reqs = append(reqs, Request{Campaign: "spring", User: user(i)})
	}
	for i, r := range f.ClaimBatch(t.Context(), reqs) {
		if r.Err != nil {
			t.Errorf("claim %d: %v", i, r.Err)
		}
	}
	want(t, "reads under way at a time", books.most.Load(), int64(1))
}
