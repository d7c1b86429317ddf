package fallbacklog_test

import (
	"context"
	"testing"

	"manna/fallbacklog"
)

// BenchmarkRead reads claims that a log has, as who feeds an engine from it does.
func BenchmarkRead(b *testing.B) {
	const claims = 1 << 16
	l, err := fallbacklog.Open(fallbacklog.Options{Dir: b.TempDir(), Node: "a"})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	recs := make([]*fallbacklog.Record, claims/64)
	for range 64 {
		for i := range recs {
			recs[i] = claimRecord("user-0123456789")
		}
		if err := l.Append(context.Background(), recs...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for read := 0; read < b.N; {
		r := l.Reader(0, fallbacklog.Claimed)
		for ; read < b.N; read++ {
			if _, err := r.TryNext(); err == fallbacklog.ErrTail {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
}
