package embedded_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
	"manna/queue/embedded"
)

// fill makes a log with n claims of one order each, in batches.
func fill(b *testing.B, n int) (*fallbacklog.Log, *embedded.Queue, queue.Lane) {
	b.Helper()
	ctx := context.Background()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: b.TempDir(), Node: "a"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	campaign := gift.NewCampaignID("spring")
	for at := 0; at < n; at += 1000 {
		var recs []*fallbacklog.Record
		for i := at; i < min(n, at+1000); i++ {
			id := campaign.ClaimID("rain", fmt.Sprint("u", i), "")
			recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: &gift.Claim{
				ID: id, Campaign: "spring", Scene: "rain", User: fmt.Sprint("u", i), Gift: "vip", ClaimedAt: time.Now(),
				Orders: []gift.Order{{ID: id.OrderID("vip"), Item: "vip", Partner: "midas", Quantity: 1}},
			}})
		}
		if err := log.Append(ctx, recs...); err != nil {
			b.Fatal(err)
		}
	}
	q, err := embedded.Open(ctx, embedded.Options{Log: log, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { q.Close(ctx) })
	l, err := q.Lane(ctx, "midas")
	if err != nil {
		b.Fatal(err)
	}
	return log, q, l
}

// BenchmarkFirstDelivery receives and acknowledges a backlog.
func BenchmarkFirstDelivery(b *testing.B) {
	_, _, l := fill(b, b.N)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		m, err := l.Receive(ctx)
		if err == nil {
			err = l.Ack(ctx, m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDue receives orders that have come due; deferring them is not timed.
func BenchmarkDue(b *testing.B) {
	log, _, l := fill(b, b.N)
	ctx := context.Background()
	held := make([]*queue.Message, 0, b.N)
	recs := make([]*fallbacklog.Record, 0, b.N)
	due := time.Now()
	for range b.N {
		m, err := l.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		held = append(held, m)
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Deferred, Event: &fallbacklog.Event{
			Order: m.Order.ID, Claim: m.Claim.ID, Partner: "midas", Origin: m.Origin, Attempts: 1, Due: due,
		}})
	}
	for at := 0; at < len(recs); at += 1000 {
		if err := log.Append(ctx, recs[at:min(at+1000, len(recs))]...); err != nil {
			b.Fatal(err)
		}
	}
	for _, m := range held {
		if err := l.Defer(ctx, m, due); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		m, err := l.Receive(ctx)
		if err == nil {
			err = l.Ack(ctx, m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
