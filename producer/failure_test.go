package producer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

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
			left := f.left("spring", "cash")
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
			left = f.left("spring", "cash")
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
	f := openFixture(t, func(o *Options) { o.Guard = steadfast{brokenGuard{newMemoryGuard()}} })
	a := f.claim(Request{Campaign: "spring", User: "u"})
	want(t, "first is a duplicate", a.Duplicate, false)
	// What its own log has, the node knows without anybody.
	want(t, "second is a duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
	results := f.ClaimBatch(t.Context(), []Request{{Campaign: "spring", User: "u"}, {Campaign: "spring", User: "v"}, {Campaign: "spring", User: "v"}})
	for i, duplicate := range []bool{true, false, true} {
		if results[i].Err != nil {
			t.Fatal(results[i].Err)
		}
		want(t, fmt.Sprint("duplicate in a batch: ", i), results[i].Answer.Duplicate, duplicate)
	}
	want(t, "taken", f.stock.of("spring", "cash").Load(), 2)
}
