//go:build engines

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// openOn opens a ledger on a server of the test's own.
func openOn(t *testing.T, s *server, opts Options) *Ledger {
	t.Helper()
	opts.DSN, opts.Node = s.dsn(serverPassword), "a"
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func claimOf(i int) *fallbacklog.Record {
	user, at := fmt.Sprint("user-", i), time.Date(2027, 2, 5, 12, 0, 0, i, time.UTC)
	id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
		ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: at, DeliverBy: at.Add(time.Hour),
		Orders: []gift.Order{{ID: id.OrderID("vip-30"), Item: "vip-30", Partner: "midas", Quantity: 1}}}}
}

func grantOf(c *fallbacklog.Record) *fallbacklog.Record {
	return &fallbacklog.Record{Kind: fallbacklog.Granted, Time: c.Time, Event: &fallbacklog.Event{
		Order: c.Claim.Orders[0].ID, Claim: c.Claim.ID, Campaign: "spring", Partner: "midas", Attempts: 1}}
}

// whole checks, in one snapshot, that the rows are those of the log before the
// place, each once, and nothing of what is behind it.
func whole(t *testing.T, s *server, recs []*fallbacklog.Record) (place fallbacklog.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn(serverPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var claims, orders, outcomes int
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT position FROM manna.followed WHERE node = 'a'), 0),
		(SELECT count(*) FROM manna.claims), (SELECT count(*) FROM manna.orders), (SELECT count(*) FROM manna.outcomes)`).Scan(&place, &claims, &orders, &outcomes)
	if err != nil {
		t.Fatal(err)
	}
	var wantClaims, wantOutcomes int
	for _, rec := range recs {
		switch {
		case rec.At >= place:
		case rec.Claim != nil:
			wantClaims++
		default:
			wantOutcomes++
		}
	}
	if claims != wantClaims || orders != wantClaims || outcomes != wantOutcomes {
		t.Fatalf("before %v there are %d claims, %d orders and %d outcomes, want %d, %d and %d", place, claims, orders, outcomes, wantClaims, wantClaims, wantOutcomes)
	}
	return place
}

func TestKilledServerLeavesNoBatchHalfApplied(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	l := openOn(t, s, Options{Timeout: 2 * time.Second})
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: t.TempDir(), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var recs []*fallbacklog.Record
	for i := range 20_000 {
		c := claimOf(i)
		recs = append(recs, c, grantOf(c))
	}
	for i := 0; i < len(recs); i += 500 {
		if err := log.Append(t.Context(), recs[i:min(i+500, len(recs))]...); err != nil {
			t.Fatal(err)
		}
	}
	f, err := ledger.NewFollower(ledger.FollowerOptions{Log: log, Store: l, BatchRecords: 1500})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer ended.Wait()
	defer cancel()
	var places []fallbacklog.Position
	for range 5 {
		// Once it gets on, at any moment of a batch.
		if err := f.Wait(ctx, f.Position()+1); err != nil {
			t.Fatal(err, f.Err())
		}
		moment := time.NewTimer(time.Duration(random.IntN(60)) * time.Millisecond)
		<-moment.C
		s.kill()
		s.start(t)
		places = append(places, whole(t, s, recs))
	}
	if err := f.Wait(ctx, log.End()); err != nil {
		t.Fatal(err, f.Err())
	}
	if at := whole(t, s, recs); at < recs[len(recs)-1].At {
		t.Fatalf("at the end the place is %v", at)
	}
	t.Logf("killed at %v of %v", places, log.End())
	if places[0] >= recs[len(recs)-1].At {
		t.Fatal("the log was too short: nothing was left to be taken in")
	}
}

func TestKilledServerForgetsNoMarkAndNoLease(t *testing.T) {
	s := newServer(t)
	l := openOn(t, s, Options{Timeout: 2 * time.Second})
	epoch, err := l.Join(t.Context(), ledger.Process{Node: "a", Home: "disk"})
	if err != nil {
		t.Fatal(err)
	}
	h, key := ledger.Holder{Node: "a", Epoch: epoch}, ledger.StockKey{Campaign: "spring", Gift: "vip"}
	var mu sync.Mutex
	var marked []gift.OrderID // what Mark said is won
	var held int64            // what Lease said is held
	enough := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				var attempts []ledger.Attempt
				for j := range 50 {
					attempts = append(attempts, ledger.Attempt{Order: claimOf(worker*1_000_000 + i*50 + j).Claim.Orders[0].ID, Number: 1, Node: "a", Epoch: epoch})
				}
				standings, err := l.Mark(ctx, attempts)
				lease, leaseErr := l.Lease(ctx, key, h, ledger.Ask{Total: 1 << 40, UpTo: int64(i)})
				mu.Lock()
				for j, s := range standings {
					if err == nil && s.Won {
						marked = append(marked, attempts[j].Order)
					}
				}
				if leaseErr == nil {
					held = max(held, lease.Held)
				}
				if len(marked) > 2000 && enough != nil {
					close(enough)
					enough = nil
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	mu.Lock()
	reached := enough
	mu.Unlock()
	if reached != nil {
		<-reached
	}
	s.kill()
	cancel()
	all.Wait()
	s.start(t)
	known := 0
	for len(marked[known:]) > 0 {
		part := marked[known:min(known+1000, len(marked))]
		found, err := l.Highest(t.Context(), part)
		for range 8 { // as many connections may have lain idle when the server died
			if errors.Is(err, ledger.ErrUnavailable) {
				found, err = l.Highest(t.Context(), part)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != len(part) {
			t.Fatalf("of %d marks that were won, %d are there after the server was killed", len(part), len(found))
		}
		known += len(part)
	}
	p, _, err := l.Leases(t.Context(), key)
	if err != nil || p.Held < held {
		t.Fatalf("%d held after the kill, want at least %d (%v)", p.Held, held, err)
	}
	t.Logf("%d marks and a lease of %d outlived the server", len(marked), held)
}

func TestHungServerBlocksNobody(t *testing.T) {
	s := newServer(t)
	const timeout = 300 * time.Millisecond
	l := openOn(t, s, Options{Timeout: timeout, Connections: 2})
	ctx := t.Context()
	s.signal(syscall.SIGSTOP)
	began := time.Now()
	var all sync.WaitGroup
	for range 6 { // more than there are connections
		all.Go(func() {
			_, err := l.Mark(ctx, []ledger.Attempt{{Order: claimOf(1).Claim.Orders[0].ID, Number: 1, Node: "a"}})
			if !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("a hung server brings %v", err)
			}
		})
	}
	all.Wait()
	if err := l.Ping(ctx); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("ping of a hung server: %v", err)
	}
	if took := time.Since(began); took > 20*timeout {
		t.Fatalf("calls with a timeout of %v took %v", timeout, took)
	}
	s.signal(syscall.SIGCONT)
	reaches(t, l)
}

// reaches waits until the ledger answers again by itself.
func reaches(t *testing.T, l *Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := l.Ping(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the ledger does not come back: %v", err)
		}
	}
}

func TestServerThatComesLater(t *testing.T) {
	s := newServer(t)
	s.kill()
	opts := Options{DSN: s.dsn(serverPassword), Node: "a", Timeout: time.Second}
	if _, err := Open(t.Context(), opts); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("error %v, want one that says that the server cannot be reached", err)
	}
	opts.Later = true
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.StartRun(t.Context(), ledger.RunStart{ID: "r", Node: "a"}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("a call before the server is there: %v", err)
	}
	s.start(t)
	reaches(t, l)
	if _, err := l.StartRun(t.Context(), ledger.RunStart{ID: "r", Node: "a"}); err != nil {
		t.Fatal(err)
	}
}

func TestWrongCredentials(t *testing.T) {
	s := newServer(t)
	const wrong = "wr0ng-pa55word"
	for name, c := range map[string]struct{ dsn, remedy string }{
		"password": {s.dsn(wrong), "check user and password"},
		"user":     {fmt.Sprintf("postgres://nobody:%s@127.0.0.1:%d/postgres?sslmode=disable", wrong, s.port), "check user and password"},
		"database": {fmt.Sprintf("host=127.0.0.1 port=%d user=manna password=%s dbname=nowhere sslmode=disable", s.port, serverPassword), "createdb"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), Options{DSN: c.dsn, Node: "a", Later: true})
			refusal(t, err, c.remedy, wrong, serverPassword)
			if errors.Is(err, ledger.ErrUnavailable) {
				t.Error("it does not pass by itself")
			}
		})
	}
	t.Run("rights", func(t *testing.T) {
		h := home{dsn: s.dsn(serverPassword), schema: "public"}
		h.exec(t, "CREATE ROLE guest LOGIN PASSWORD '"+wrong+"'; REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
		_, err := Open(t.Context(), Options{DSN: fmt.Sprintf("postgres://guest:%s@127.0.0.1:%d/postgres?sslmode=disable", wrong, s.port), Node: "a"})
		refusal(t, err, "GRANT CREATE ON DATABASE", wrong)
	})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	h := newHome(t, dsn(t))
	l := h.open(t, "a", nil)
	if err := l.Audit(t.Context(), ledger.Entry{Who: "ana"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	h.exec(t, "INSERT INTO "+versions+" (version_id, is_applied) VALUES (99, true); ALTER TABLE audit ADD COLUMN later text")
	opts := h.options("a")
	opts.Later = true
	_, err := Open(t.Context(), opts)
	refusal(t, err, "run the newer release")
	if !errors.Is(err, ledger.ErrNewer) {
		t.Fatalf("error %v, want %v", err, ledger.ErrNewer)
	}
	h.exec(t, "DELETE FROM "+versions+" WHERE version_id = 99")
	l = h.open(t, "a", nil)
	defer l.Close()
	if entries, _, err := l.AuditLog(t.Context(), ledger.AuditFilter{}, 0); err != nil || len(entries) != 1 {
		t.Fatalf("%d entries (%v): the newer data was touched", len(entries), err)
	}
}

func TestManyNodesStartTogether(t *testing.T) {
	h := newHome(t, dsn(t))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			opts := h.options(fmt.Sprint("node-", i))
			opts.Connections = 1
			l, err := Open(t.Context(), opts)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			if err := l.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
