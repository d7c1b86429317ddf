//go:build engines

package consumer_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery"
	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/ledger/postgres"
	"manna/ops/local/engines"
	"manna/queue/embedded"
)

// schema makes a name for a schema of the test's own, which goes with the test.
func schema(t testing.TB, dsn string) string {
	t.Helper()
	name := "lanes_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return name
}

// onPostgres has each swarm's ledger in a schema of its own on the real PostgreSQL.
func onPostgres(t *testing.T) opening {
	dsn := engines.Up(t, engines.Postgres).DSN()
	return func(t *testing.T) opened {
		schema := schema(t, dsn)
		return func(node string, now func() time.Time) ledger.Cluster {
			l, err := postgres.Open(context.Background(), postgres.Options{DSN: dsn, Node: node, Schema: schema, Connections: 4, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
	}
}

func TestPostgresKeepsWhatTwoHoldFromDoubling(t *testing.T) { neverDoubled(t, onPostgres(t)) }

func TestPostgresWithProcessesKilled(t *testing.T) { killed(t, onPostgres(t)) }

func TestPostgresTakesRefusedPacksBack(t *testing.T) {
	open := onPostgres(t)
	// As a subtest, since who waits for other tests must not hold a server meanwhile.
	t.Run("on one server", func(t *testing.T) { refusedPacks(t, open) })
}

func TestPostgresWithAnythingAtAnyTime(t *testing.T) { anything(t, onPostgres(t), 4) }

// BenchmarkMarkedLane measures what a lane of a partner that cannot dedupe uses of its
// rate, with a mark and a conclusion in PostgreSQL for each call.
func BenchmarkMarkedLane(b *testing.B) {
	const rate, seconds = 3000, 6
	dsn := engines.Up(b, engines.Postgres).DSN()
	l, err := postgres.Open(b.Context(), postgres.Options{DSN: dsn, Node: "a", Schema: schema(b, dsn)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	dir := b.TempDir()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(dir, "log"), Node: "a"})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	q, err := embedded.Open(b.Context(), embedded.Options{Log: log, Dir: filepath.Join(dir, "lanes")})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close(context.Background())
	campaign := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: time.Hour}
	g := &gift.Gift{Name: "g", Items: []gift.Item{{Name: "i", Partner: "p", Quantity: 1}}}
	var recs []*fallbacklog.Record
	for range rate * (seconds + 3) {
		user := rand.Text()
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: campaign.NewClaim(campaign.ID.ClaimID("", user, ""), "", "", user, g, "", nil, time.Now().UTC())})
	}
	if err := log.Append(b.Context(), recs...); err != nil {
		b.Fatal(err)
	}
	br, err := breaker.New("partner/p", breaker.Settings{Window: time.Minute, FailureRatio: 0.9, MinCalls: 100, OpenFor: time.Second, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	partner := &quick{}
	c, err := consumer.New(consumer.Options{
		Log: log, Queue: q, Partners: []*consumer.Partner{{Name: "p", Adapter: partner, Rate: rate, MaxInFlight: 500, Breaker: br}},
		Cluster: &consumer.Cluster{Marks: l, Outcomes: l, Stock: l, Holder: func() (ledger.Holder, error) { return ledger.Holder{Node: "a", Epoch: 1}, nil }},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	<-c.Opened()
	time.Sleep(2 * time.Second) // it gets going
	before := partner.count()
	b.ResetTimer()
	time.Sleep(seconds * time.Second)
	b.StopTimer()
	got := float64(partner.count()-before) / seconds
	cancel()
	<-ended
	b.ReportMetric(got, "calls/s")
	b.ReportMetric(100*got/rate, "%_of_rate")
}

// quick is a partner in this process that grants at once: what is measured is the
// lane.
type quick struct {
	mu sync.Mutex
	n  int
}

func (q *quick) Grant(context.Context, *gift.Claim, gift.Order) gift.Outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.n++
	return gift.Granted{}
}

func (q *quick) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

func (q *quick) Query(context.Context, gift.OrderID) delivery.Standing { return delivery.None{} }
func (q *quick) Traits() delivery.Traits                               { return delivery.Traits{Timeout: time.Second} }
func (q *quick) Close()                                                {}
