package sqlite

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// randomBatch makes a batch of claims of users that come in no order.
func randomBatch(random *rand.Rand, from fallbacklog.Position, n int) *ledger.Batch {
	campaign := gift.NewCampaignID("spring-2027")
	b := &ledger.Batch{Node: "front-1", From: from, Claims: make([]ledger.ClaimRow, n)}
	at := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	for i := range b.Claims {
		user := fmt.Sprintf("user-%012d", random.Int64N(1e12))
		from += 200
		b.Claims[i] = ledger.ClaimRow{ID: campaign.ClaimID("rain-2000", user, ""), User: user, Campaign: "spring-2027", Scene: "rain-2000",
			Gift: "vip-pack", ClaimedAt: at, Node: "front-1", At: from}
	}
	b.Through = ledger.Place{Position: from, AsOf: at}
	return b
}

func openBench(b *testing.B) *Ledger {
	l, err := Open(b.Context(), Options{Dir: b.TempDir(), Node: "front-1"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkApply measures rows per second of batches of 20,000 new claims.
func BenchmarkApply(b *testing.B) {
	l := openBench(b)
	random := rand.New(rand.NewPCG(1, 1))
	var at fallbacklog.Position
	rows := 0
	for b.Loop() {
		b.StopTimer()
		batch := randomBatch(random, at, 20_000)
		b.StartTimer()
		if err := l.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		at = batch.Through.Position
		rows += len(batch.Claims)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkUserClaims measures the first page of a user with as many claims as
// are named, among 100,000 claims of others.
func BenchmarkUserClaims(b *testing.B) {
	l := openBench(b)
	batch := randomBatch(rand.New(rand.NewPCG(1, 1)), 0, 100_000)
	campaign := gift.NewCampaignID("spring-2027")
	sizes := []int{1, 30, 2000}
	for _, n := range sizes {
		for i := range n {
			user, scene := fmt.Sprint("heavy-", n), fmt.Sprint("rain-", i)
			batch.Claims = append(batch.Claims, ledger.ClaimRow{ID: campaign.ClaimID(scene, user, ""), User: user, Campaign: "spring-2027", Scene: scene,
				Gift: "vip-pack", ClaimedAt: batch.Through.AsOf.Add(time.Duration(i)), Node: "front-1"})
		}
	}
	if err := l.Apply(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				claims, _, _, err := l.UserClaims(b.Context(), fmt.Sprint("heavy-", n), ledger.Cursor{}, 0)
				if err != nil || len(claims) != min(n, ledger.DefaultPage) {
					b.Fatal(len(claims), err)
				}
			}
		})
	}
}
