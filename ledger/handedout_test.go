package ledger_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// whole is a log that is read where it is written.
type whole struct{ *fallbacklog.Log }

func (w whole) Indexes(ctx context.Context) ([]*fallbacklog.Index, error) { return w.Seal(ctx) }

func (w whole) Read(_ context.Context, at fallbacklog.Position) (*fallbacklog.Record, error) {
	return w.Log.Read(at)
}

func TestHandedOut(t *testing.T) {
	log := openLog(t, t.TempDir())
	unnumbered := strings.Repeat("n", 300) // longer than an index keeps
	claim := func(user, of string) *fallbacklog.Record {
		at := time.Now().UTC()
		id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
		return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
			ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: of, ClaimedAt: at, DeliverBy: at.Add(time.Hour),
			Orders: []gift.Order{{ID: id.OrderID("one"), Item: "one", Partner: "p"}, {ID: id.OrderID("two"), Item: "two", Partner: "p"}}}}
	}
	returned := func(user, of string, count int64) *fallbacklog.Record {
		s := &fallbacklog.Stock{Campaign: "spring", Gift: of, Count: count}
		if user != "" {
			s.Claim = gift.NewCampaignID("spring").ClaimID("rain", user, "")
		}
		return &fallbacklog.Record{Kind: fallbacklog.Returned, Time: time.Now().UTC(), Stock: s}
	}
	want := func(counts map[ledger.StockKey]int64) {
		t.Helper()
		got, err := ledger.HandedOut(t.Context(), whole{log})
		if err != nil || !maps.Equal(got, counts) {
			t.Errorf("got %v, %v, want %v", got, err, counts)
		}
	}
	vip, coin, long := ledger.StockKey{Campaign: "spring", Gift: "vip"}, ledger.StockKey{Campaign: "spring", Gift: "coin"}, ledger.StockKey{Campaign: "spring", Gift: unnumbered}
	want(map[ledger.StockKey]int64{})
	for i := range 300 { // over several segments
		if err := log.Append(t.Context(), claim(fmt.Sprint("u", i), "vip"), claim(fmt.Sprint("c", i), "coin")); err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 {
			if _, err := log.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want(map[ledger.StockKey]int64{vip: 300, coin: 300})
	if err := log.Append(t.Context(),
		claim("u7", "vip"), claim("u7", "vip"), // once more
		claim("u8", "coin"), // with another gift: it took one of each
		returned("u9", "vip", 1), returned("", "coin", 5),
		claim("l1", unnumbered), claim("l2", unnumbered), returned("l1", unnumbered, 1),
	); err != nil {
		t.Fatal(err)
	}
	want(map[ledger.StockKey]int64{vip: 299, coin: 296, long: 1})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ledger.HandedOut(ended, whole{log}); err == nil {
		t.Error("it was counted after its context had ended")
	}
}
