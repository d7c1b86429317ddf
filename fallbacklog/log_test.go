package fallbacklog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func openLog(t *testing.T, o fallbacklog.Options) *fallbacklog.Log {
	t.Helper()
	if o.Node == "" {
		o.Node = "a"
	}
	l, err := fallbacklog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func claimRecord(user string) *fallbacklog.Record {
	campaign := gift.NewCampaignID("spring")
	id := campaign.ClaimID("rain", user, "")
	at := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
		ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", Target: []byte(`{"wallet":"w1"}`), ClaimedAt: at, DeliverBy: at.Add(48 * time.Hour),
		Orders: []gift.Order{{ID: id.OrderID("vip-30"), Item: "vip-30", Partner: "midas", SKU: "V30", Quantity: 1, Amount: 990, Currency: "CNY"}},
	}}
}

func TestAppendedRecordsAreReadBackAcrossSegmentsAndRestarts(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	l := openLog(t, fallbacklog.Options{Dir: dir, SegmentBytes: fallbacklog.MinSegment})
	const n = 2000
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < n; i += 8 {
				if err := l.Append(ctx, claimRecord(fmt.Sprint("u", i))); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	check := func() {
		t.Helper()
		r := l.Reader(0)
		defer r.Close()
		seen := map[string]bool{}
		var last fallbacklog.Position
		for {
			rec, err := r.TryNext()
			if errors.Is(err, fallbacklog.ErrTail) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.At <= last {
				t.Fatalf("position %v after %v", rec.At, last)
			}
			last = rec.At
			seen[rec.Claim.User] = true
		}
		if len(seen) != n {
			t.Fatalf("read %d claims, want %d", len(seen), n)
		}
		want := claimRecord("u77")
		s, err := l.Order(want.Claim.Orders[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(s.Claim), fmt.Sprint(want.Claim); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	check()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, fallbacklog.Options{Dir: dir, SegmentBytes: fallbacklog.MinSegment})
	check()
	var rows int64
	for _, x := range l.Indexes() {
		rows += x.Rows()
	}
	if rows != 2*n {
		t.Fatalf("indexes hold %d rows, want %d", rows, 2*n)
	}
}
