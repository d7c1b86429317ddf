package fallbacklog_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
)

// BenchmarkAppend appends claims from many goroutines, each of which waits until
// its claim is durable before it makes the next, on the disk that holds the
// temporary directory. Each claim has ids of its own: the index pays for them.
func BenchmarkAppend(b *testing.B) {
	for _, waiters := range []int{64, 128, 256, 512} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) { benchmarkAppend(b, waiters) })
	}
}

func benchmarkAppend(b *testing.B, waiters int) {
	registry := prometheus.NewRegistry()
	l, err := fallbacklog.Open(fallbacklog.Options{Dir: b.TempDir(), Node: "a", Metrics: registry})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range waiters {
		wg.Go(func() {
			rec := claimRecord(fmt.Sprint("user-", w))
			for i := w; i < b.N; i += waiters {
				rec.Claim.ID[0], rec.Claim.Orders[0].ID[0] = byte(i), byte(i*7)
				binary.LittleEndian.PutUint64(rec.Claim.ID[8:], uint64(i))
				binary.LittleEndian.PutUint64(rec.Claim.Orders[0].ID[8:], uint64(i))
				if err := l.Append(context.Background(), rec); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	if commits := commitsCounted(b, registry); commits > 0 {
		b.ReportMetric(float64(b.N)/float64(commits), "records/sync")
	}
}

// commitsCounted reads from the metrics how many commits there were.
func commitsCounted(b *testing.B, registry *prometheus.Registry) uint64 {
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "manna_log_commit_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}
