package producer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
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
	if !VerifyReceipt(receiptKey, first.Receipt, first.Claim.ID, "cash", first.Claim.ClaimedAt) {
		t.Error("the receipt does not verify")
	}
	if VerifyReceipt(receiptKey, first.Receipt, first.Claim.ID, "pack", first.Claim.ClaimedAt) {
		t.Error("the receipt verifies for another gift")
	}
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
		pack, _ := f.Left("show", "pack")
		greeting, _ := f.Left("show", "greeting")
		return [2]int64{pack, greeting}
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

func TestClaimsPerUser(t *testing.T) {
	f := openFixture(t)
	req := func(stage string) Request {
		return Request{Campaign: "show", Scene: "first", Stage: stage, Gift: "pad", Platform: "ios", User: "u1"}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]bool{}
	for range 4 {
		for _, stage := range []string{"s1", "s2", "s3"} {
			wg.Go(func() {
				_, err := f.Claim(context.Background(), req(stage))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					accepted[stage] = true
				} else if !errors.Is(err, &gift.Error{Code: gift.LimitReached}) {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	want(t, "stages", len(accepted), 2)
	want(t, "records", len(f.records(fallbacklog.Claimed)), 2)
	f = f.reopen()
	for _, stage := range []string{"s1", "s2", "s3"} {
		if accepted[stage] {
			want(t, "duplicate", f.claim(req(stage)).Duplicate, true)
		} else {
			f.refused(req(stage), gift.LimitReached)
		}
	}
	// Another scene is another limit.
	f.claim(Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "ios", User: "u1"})
}

func TestRefusals(t *testing.T) {
	f := openFixture(t)
	for _, c := range []struct {
		name  string
		req   Request
		code  gift.Code
		field string
	}{
		{"no campaign", Request{User: "u"}, gift.BadRequest, "campaign"},
		{"unknown campaign", Request{Campaign: "winter", User: "u"}, gift.CampaignUnknown, "campaign"},
		{"no user", Request{Campaign: "spring"}, gift.BadRequest, "user"},
		{"NUL in user", Request{Campaign: "spring", User: "a\x00b"}, gift.BadRequest, "user"},
		{"user not UTF-8", Request{Campaign: "spring", User: "\xff"}, gift.BadRequest, "user"},
		{"unknown scene", Request{Campaign: "spring", Scene: "snow", User: "u"}, gift.BadRequest, "scene"},
		{"no scene of several", Request{Campaign: "show", Gift: "pad", User: "u"}, gift.BadRequest, "scene"},
		{"unknown stage", Request{Campaign: "spring", Stage: "s9", User: "u"}, gift.BadRequest, "stage"},
		{"no stage of several", Request{Campaign: "show", Scene: "first", Gift: "pad", User: "u"}, gift.BadRequest, "stage"},
		{"unknown gift", Request{Campaign: "spring", Gift: "moon", User: "u"}, gift.BadRequest, "gift"},
		{"no gift of several", Request{Campaign: "show", Scene: "second", User: "u"}, gift.BadRequest, "gift"},
		{"no platform", Request{Campaign: "show", Scene: "second", Gift: "pad", User: "u"}, gift.BadRequest, "platform"},
		{"unknown platform", Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "psion", User: "u"}, gift.BadRequest, "platform"},
		{"platform that is no name", Request{Campaign: "spring", Platform: "a b", User: "u"}, gift.BadRequest, "platform"},
		{"nothing for the platform", Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "android", User: "u"}, gift.NotEligible, "platform"},
		{"not open", Request{Campaign: "later", User: "u"}, gift.CampaignNotOpen, ""},
		{"closed", Request{Campaign: "over", User: "u"}, gift.CampaignClosed, ""},
		{"target no object", Request{Campaign: "spring", User: "u", Target: []byte(`[1]`)}, gift.BadRequest, "target"},
		{"target no JSON", Request{Campaign: "spring", User: "u", Target: []byte(`{"a":}`)}, gift.BadRequest, "target"},
		{"target and more", Request{Campaign: "spring", User: "u", Target: []byte(`{} {}`)}, gift.BadRequest, "target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Claim(context.Background(), c.req)
			told, ok := errors.AsType[*gift.Error](err)
			if !ok || told.Code != c.code || told.Field != c.field {
				t.Errorf("got %v, want %s %s", err, c.code, c.field)
			}
		})
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), 0)
}

func TestOnlyGiftIgnoresSubstitutes(t *testing.T) {
	c := testCampaigns()[1]
	c.Gifts = c.Gifts[:2]
	f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	a := f.claim(Request{Campaign: "show", Scene: "second", Platform: "web", User: "u1", Gift: "greeting"})
	want(t, "gift asked for", a.Claim.Gift, "greeting")
	a = f.claim(Request{Campaign: "show", Scene: "second", Platform: "ios", User: "u2"})
	want(t, "only gift", a.Claim.Gift, "pack")
	want(t, "orders", len(a.Claim.Orders), 2)
}

func TestWindowEdgesAndLateRepeats(t *testing.T) {
	f := openFixture(t)
	f.clock.at.Store(opens.UnixNano())
	f.claim(Request{Campaign: "spring", User: "first"})
	f.clock.at.Store(opens.Add(-time.Nanosecond).UnixNano())
	f.refused(Request{Campaign: "spring", User: "early"}, gift.CampaignNotOpen)
	f.clock.at.Store(opens.Add(time.Hour - time.Nanosecond).UnixNano())
	f.claim(Request{Campaign: "spring", User: "last"})
	f.clock.at.Store(opens.Add(time.Hour).UnixNano())
	f.refused(Request{Campaign: "spring", User: "late"}, gift.CampaignClosed)
	// The answer to the last claim may have been lost: its repeat still gets it.
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "last"}).Duplicate, true)
}

// appendFault is what an append fails with, and what must follow.
type appendFault struct {
	name  string
	fault func(*crashdisk.Disk) // nil: the disk is full
	// again: the next claim is accepted without a restart.
	again bool
	// recorded: the claim is found after a restart although its caller was told
	// that it failed.
	recorded bool
}

func TestFailedAppend(t *testing.T) {
	broken := errors.New("I/O error")
	for _, c := range []appendFault{
		{"disk full", nil, true, false},
		{"write fails, not applied", func(d *crashdisk.Disk) { d.FailAt(crashdisk.OpWrite, 1, broken, false) }, false, false},
		{"write fails, applied", func(d *crashdisk.Disk) { d.FailAt(crashdisk.OpWrite, 1, broken, true) }, false, true},
		{"sync fails, not applied", func(d *crashdisk.Disk) { d.FailAt(crashdisk.OpSync, 1, broken, false) }, false, false},
		{"sync fails, applied", func(d *crashdisk.Disk) { d.FailAt(crashdisk.OpSync, 1, broken, true) }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			campaign := testCampaigns()[0]
			campaign.Gifts[0].Stock = 10
			one := func(o *Options) { o.Snapshot = compileCampaigns(t, campaign) }
			f, d := crashing(t, one)
			f.claim(Request{Campaign: "spring", User: "before"})
			if c.fault == nil {
				fillLog(t, f, d)
			} else {
				c.fault(d)
			}
			told := f.refused(Request{Campaign: "spring", User: "u"}, gift.Unavailable)
			if told.RetryAfter < time.Second || told.RetryAfter > 5*time.Second {
				t.Errorf("come again after %v", told.RetryAfter)
			}
			left, _ := f.Left("spring", "cash")
			if c.again {
				want(t, "left after the failure", left, 9)
				want(t, "ready", f.Ready(), nil)
				d.SetCapacity(1 << 40)
				want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, false)
				return
			}
			want(t, "left after the failure", left, 8)
			if !errors.Is(f.Ready(), fallbacklog.ErrPoisoned) {
				t.Errorf("ready: %v", f.Ready())
			}
			f.refused(Request{Campaign: "spring", User: "v"}, gift.Unavailable)
			// Nothing that the disk did not sync survives.
			f = openFixtureOn(t, d.Crash(0), f.dir, one)
			want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "before"}).Duplicate, true)
			again := f.claim(Request{Campaign: "spring", User: "u"})
			if again.Duplicate && !c.recorded {
				t.Error("a claim that was never written is there")
			}
			left, _ = f.Left("spring", "cash")
			want(t, "left after the restart", left, 8)
		})
	}
}

// fillLog takes the room that the log has reserved, so that its next append meets
// a full disk.
func fillLog(t *testing.T, f *fixture, d *crashdisk.Disk) {
	t.Helper()
	d.SetCapacity(d.Used())
	e := &fallbacklog.Event{Order: gift.OrderID{1}, Reason: string(make([]byte, 200<<10))}
	for range 1000 {
		err := f.log.Append(context.Background(), &fallbacklog.Record{Kind: fallbacklog.Parked, Event: e})
		if errors.Is(err, disk.ErrFull) {
			if e.Reason = e.Reason[:len(e.Reason)/2]; e.Reason == "" {
				return
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the log does not fill up")
}

// brokenGuard is a guard that cannot be reached.
type brokenGuard struct{ Guard }

func (brokenGuard) Reserve(context.Context, gift.ClaimID, []gift.ClaimID, int) (Reservation, error) {
	return Reservation{}, errors.New("no connection")
}

func TestClaimsGoOnWithoutTheGuard(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.Guard = brokenGuard{newMemoryGuard()} })
	a := f.claim(Request{Campaign: "spring", User: "u"})
	b := f.claim(Request{Campaign: "spring", User: "u"})
	// Both have the same ids, so whoever delivers them recognises the second.
	want(t, "order id", b.Claim.Orders[0].ID, a.Claim.Orders[0].ID)
	// After a restart with a guard they are one claim, and one gift is taken.
	f = f.reopen()
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
	want(t, "taken", f.stock.of("spring", "cash").Load(), 1)
}

func TestOverload(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.Limits.InFlight = 2 })
	if err := f.enter(2); err != nil {
		t.Fatal(err)
	}
	told := f.refused(Request{Campaign: "spring", User: "u"}, gift.Overloaded)
	if told.RetryAfter <= 0 {
		t.Error("no Retry-After")
	}
	r := f.call("POST", "/v1/claims", `{"campaign":"spring","user":"u"}`)
	want(t, "status", r.status, 503)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After header")
	}
	r = f.call("POST", "/v1/claims/batch", `{"claims":[{"campaign":"spring","user":"u"}]}`)
	want(t, "batch status", r.status, 503)
	f.leave(2)
	f.claim(Request{Campaign: "spring", User: "u"})
	want(t, "in flight", f.inFlight.Load(), 0)
	// A batch larger than the limit is taken when it is alone.
	for i, r := range f.ClaimBatch(context.Background(), []Request{{Campaign: "spring", User: "a"}, {Campaign: "spring", User: "b"}, {Campaign: "spring", User: "c"}}) {
		if r.Err != nil {
			t.Errorf("claim %d: %v", i, r.Err)
		}
	}
}

func TestReloadLeavesTheOldSnapshotAlone(t *testing.T) {
	f := openFixture(t)
	f.claim(Request{Campaign: "spring", User: "u"})
	f.Reload(compileCampaigns(t, testCampaigns()[1]))
	f.refused(Request{Campaign: "spring", User: "v"}, gift.CampaignUnknown)
	f.Reload(compileCampaigns(t, testCampaigns()...))
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
}

func TestNewFrontRefusesBadOptions(t *testing.T) {
	f := openFixture(t)
	good := Options{Log: f.log, Snapshot: f.snapshot.Load(), Dev: true, ReceiptKey: receiptKey}
	for name, change := range map[string]func(*Options){
		"no log":         func(o *Options) { o.Log = nil },
		"no snapshot":    func(o *Options) { o.Snapshot = nil },
		"no auth":        func(o *Options) { o.Dev = false },
		"no receipt key": func(o *Options) { o.ReceiptKey = nil },
	} {
		o := good
		change(&o)
		if _, err := NewFront(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
