package producer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func benchFront(b *testing.B) *Front {
	b.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: b.TempDir(), Node: "a"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	now := func() time.Time { return opens.Add(time.Minute) }
	f, err := NewFront(b.Context(), Options{Log: log, Snapshot: compileCampaigns(b, testCampaigns()...), Dev: true, ReceiptKey: receiptKey, Now: now})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func BenchmarkClaim(b *testing.B) {
	f := benchFront(b)
	var n atomic.Int64
	b.SetParallelism(256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.Claim(context.Background(), Request{Campaign: "spring", User: fmt.Sprint("u", n.Add(1))}); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkHandler(b *testing.B) {
	f := benchFront(b)
	h := f.Handler()
	var n atomic.Int64
	b.SetParallelism(256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := fmt.Sprintf(`{"campaign":"spring","scene":"rain","user":"u%d","target":{"wallet":"w-%d"}}`, n.Add(1), n.Load())
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/claims", strings.NewReader(body)))
			if w.Code != 202 {
				b.Errorf("%d %s", w.Code, w.Body)
			}
		}
	})
}

const benchBody = `{"campaign":"spring-2027","scene":"rain-2000","gift":"vip-pack","user":"user-1234567","platform":"ios","target":{"wallet":"w-1234567"}}`

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeRequest(benchBody); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeStdlib(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var req Request
		if err := json.Unmarshal([]byte(benchBody), &req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	c := testCampaigns()[0]
	id := gift.NewCampaignID(c.Name).ClaimID("rain", "u1", "")
	r := newReceipts(receiptKey)
	room := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		claim := c.NewClaim(id, "rain", "", "u1", c.Gifts[0], "", nil, opens)
		room = appendAnswer(room[:0], &Answer{Claim: claim, Receipt: r.of(claim)})
	}
}
