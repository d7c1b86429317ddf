//go:build engines

package postgres

import (
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// BenchmarkApply measures rows per second of batches of 10,000 claims with a grant
// each.
func BenchmarkApply(b *testing.B) {
	l := newHome(b, dsn(b)).open(b, "a", time.Now)
	defer l.Close()
	var at fallbacklog.Position
	n := 0
	for b.Loop() {
		b.StopTimer()
		batch := &ledger.Batch{Node: "a", From: at, Outcomes: true}
		for range 10_000 {
			c := claimOf(n)
			n++
			for _, rec := range []*fallbacklog.Record{c, grantOf(c)} {
				rec.At = at
				batch.Add(rec)
				at++
			}
		}
		batch.Through.Position = at
		b.StartTimer()
		if err := l.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(2*n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkMark measures attempts per second, marked and concluded in batches of
// 100 by four callers.
func BenchmarkMark(b *testing.B) {
	l := newHome(b, dsn(b)).open(b, "a", time.Now)
	defer l.Close()
	n := 0
	for b.Loop() {
		var all sync.WaitGroup
		for range 4 {
			attempts := make([]ledger.Attempt, 100)
			ends := make([]ledger.Conclusion, 100)
			for i := range attempts {
				attempts[i] = ledger.Attempt{Order: claimOf(n).Claim.Orders[0].ID, Number: 1, Node: "a", Epoch: 1}
				ends[i] = ledger.Conclusion{Attempt: attempts[i], State: gift.StateGranted}
				n++
			}
			all.Go(func() {
				if _, err := l.Mark(b.Context(), attempts); err != nil {
					b.Error(err)
				}
				if err := l.Conclude(b.Context(), ends); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "attempts/s")
}
