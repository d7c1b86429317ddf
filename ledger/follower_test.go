package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/ledger/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func appendClaims(t *testing.T, log *fallbacklog.Log, from, to int) {
	t.Helper()
	var recs []*fallbacklog.Record
	for i := from; i < to; i++ {
		user, at := fmt.Sprint("user-", i), time.Now().UTC()
		id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
			ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: at, DeliverBy: at.Add(time.Hour)}})
	}
	if err := log.Append(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
}

func openLog(t *testing.T, dir string) *fallbacklog.Log {
	t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: "a", SegmentBytes: fallbacklog.MinSegment})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func openLedger(t *testing.T) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// said gathers log lines of several goroutines.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) count(word string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.b.String(), word)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// run runs a follower until stop is called, which gives what Run returned.
func run(t *testing.T, o ledger.FollowerOptions) (f *ledger.Follower, stop func() error) {
	t.Helper()
	f, err := ledger.NewFollower(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	return f, stop
}

func wait(t *testing.T, f *ledger.Follower, p fallbacklog.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.Wait(ctx, p); err != nil {
		t.Fatalf("at %v of %v: %v (%v)", f.Position(), p, err, f.Err())
	}
}

// down is a store that fails until it is told to come back.
type down struct {
	ledger.Store
	tries chan struct{} // one for each failed try
	back  chan struct{} // closed when it is back
}

func (d *down) Apply(ctx context.Context, b *ledger.Batch) error {
	select {
	case <-d.back:
		return d.Store.Apply(ctx, b)
	default:
	}
	select {
	case d.tries <- struct{}{}:
	case <-d.back:
	case <-ctx.Done():
	}
	return errors.New("the ledger is down")
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestAFailingLedgerIsSaidOnceAndTriedAgain(t *testing.T) {
	log := openLog(t, t.TempDir())
	appendClaims(t, log, 0, 100)
	var out said
	registry := prometheus.NewRegistry()
	store := &down{Store: openLedger(t), tries: make(chan struct{}), back: make(chan struct{})}
	f, stop := run(t, ledger.FollowerOptions{Log: log, Store: store, Logger: slog.New(slog.NewTextHandler(&out, nil)), Metrics: registry})
	for range 3 {
		<-store.tries
	}
	if f.Err() == nil || !f.AsOf().IsZero() || f.Position() != 0 {
		t.Fatalf("error %v, as of %v, position %v; want an error and nothing taken in", f.Err(), f.AsOf(), f.Position())
	}
	if got := gauge(t, registry, "manna_ledger_lag_seconds"); got != -1 {
		t.Fatalf("lag %v, want -1", got)
	}
	// Claims go on meanwhile.
	appendClaims(t, log, 100, 200)
	if got := gauge(t, registry, "manna_ledger_lag_segments"); got < 0 {
		t.Fatalf("lag of %v segments", got)
	}
	close(store.back)
	wait(t, f, log.End())
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	if failed, again := out.count("level=ERROR"), out.count("follows the log again"); failed != 1 || again != 1 {
		t.Fatalf("%d errors and %d recoveries in the log, want 1 and 1:\n%s", failed, again, &out)
	}
	if got := gauge(t, registry, "manna_ledger_records_total"); got != 200 {
		t.Fatalf("%v records, want 200", got)
	}
	if got := gauge(t, registry, "manna_ledger_lag_seconds"); got < 0 || got > 1 {
		t.Fatalf("lag %v at the end of the log", got)
	}
	if got := gauge(t, registry, "manna_ledger_lag_segments"); got != 0 {
		t.Fatalf("lag of %v segments at the end of the log", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if families, _ := registry.Gather(); len(families) > 0 {
		t.Fatalf("%d metrics are left behind", len(families))
	}
}

func TestAtTheEndOfALogAtRestTheLedgerStaysCurrent(t *testing.T) {
	log := openLog(t, t.TempDir())
	l := openLedger(t)
	appendClaims(t, log, 0, 1)
	f, _ := run(t, ledger.FollowerOptions{Log: log, Store: l})
	wait(t, f, log.End())
	rested := time.Now()
	for deadline := rested.Add(20 * time.Second); ; {
		_, asOf, _, err := l.UserClaims(t.Context(), "user-0", ledger.Cursor{}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if asOf.After(rested) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("as of %v long after %v", asOf, rested)
		}
		time.Sleep(20 * time.Millisecond) // nothing signals that time has passed
	}
}

// What is between claims is followed too: the place moves on and is stored.
func TestThePlaceMovesOverRecordsOfNoInterest(t *testing.T) {
	log := openLog(t, t.TempDir())
	l := openLedger(t)
	appendClaims(t, log, 0, 1)
	f, stop := run(t, ledger.FollowerOptions{Log: log, Store: l})
	for i := range 50 {
		e := &fallbacklog.Event{Order: gift.OrderID{1, byte(i)}, Partner: "midas"}
		if err := log.Append(t.Context(), &fallbacklog.Record{Kind: fallbacklog.Granted, Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, f, log.End())
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		at, err := l.Position(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if at == log.End() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stored place is %v, the log ends at %v", at, log.End())
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedLogStopsTheFollowerLoudly(t *testing.T) {
	dir := t.TempDir()
	log := openLog(t, dir)
	for i := range 20 {
		appendClaims(t, log, 100*i, 100*(i+1))
	}
	segment := filepath.Join(dir, "00000002.seg")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var out said
	f, stop := run(t, ledger.FollowerOptions{Log: log, Store: openLedger(t), Logger: slog.New(slog.NewTextHandler(&out, nil)), BatchRecords: 100})
	var corrupt *fallbacklog.CorruptError
	for deadline := time.Now().Add(20 * time.Second); !errors.As(f.Err(), &corrupt) || out.count("00000002.seg") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("error %v, want corruption; it said:\n%s", f.Err(), &out)
		}
	}
	if f.Position().Segment() > 2 {
		t.Fatalf("the follower went on to %v and said:\n%s", f.Position(), &out)
	}
	if asOf := f.AsOf(); time.Since(asOf) < 0 || f.Position() >= log.End() {
		t.Fatalf("as of %v at %v", asOf, f.Position())
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestTheFollowerYieldsToALogThatIsWritten(t *testing.T) {
	log := openLog(t, t.TempDir())
	appendClaims(t, log, 0, 2000)
	store := &busy{Store: openLedger(t), log: log, t: t, next: 2000}
	f, stop := run(t, ledger.FollowerOptions{Log: log, Store: store, BatchRecords: 50})
	wait(t, f, log.End())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if store.batches < 10 || store.paused < store.worked/2 {
		t.Fatalf("%d batches took %v with %v between them, want at least half of that", store.batches, store.worked, store.paused)
	}
}

// busy appends to the log while a batch is applied, and measures.
type busy struct {
	ledger.Store
	log            *fallbacklog.Log
	t              *testing.T
	next, batches  int
	ended          time.Time
	worked, paused time.Duration
}

func (s *busy) Apply(ctx context.Context, b *ledger.Batch) error {
	began := time.Now()
	if s.batches < 20 {
		appendClaims(s.t, s.log, s.next, s.next+1)
		s.next++
		if s.batches > 0 {
			s.paused += began.Sub(s.ended)
		}
	}
	err := s.Store.Apply(ctx, b)
	if s.batches < 20 {
		s.batches++
		s.ended = time.Now()
		s.worked += s.ended.Sub(began)
	}
	return err
}

func TestCursorsComeBackFromTheirText(t *testing.T) {
	for _, c := range []ledger.Cursor{{}, {Time: time.Unix(0, 1).UTC(), Key: "a~b"}, {Time: time.Date(2027, 2, 5, 12, 0, 0, 5, time.UTC), Key: "log/1/a"}} {
		text, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got ledger.Cursor
		if err := got.UnmarshalText(text); err != nil || got != c {
			t.Errorf("%q came back as %+v (%v), want %+v", text, got, err, c)
		}
	}
}

func TestPage(t *testing.T) {
	for limit, want := range map[int]int{-1: ledger.DefaultPage, 0: ledger.DefaultPage, 1: 1, ledger.MaxPage: ledger.MaxPage, ledger.MaxPage + 1: ledger.MaxPage} {
		if got := ledger.Page(limit); got != want {
			t.Errorf("Page(%d) = %d, want %d", limit, got, want)
		}
	}
}
