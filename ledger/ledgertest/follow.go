package ledgertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/ledger"
)

// write appends n claims of few users, with outcomes, switches and repeats
// between them, and returns the records in the log's order.
func write(t *testing.T, log *fallbacklog.Log, n int) []*fallbacklog.Record {
	t.Helper()
	var recs []*fallbacklog.Record
	for i := range n {
		rec := claim(fmt.Sprint("u", i%37), fmt.Sprint("rain-", i/37), start().Add(time.Duration(i)*time.Millisecond))
		recs = append(recs, rec, granted(rec))
		if i%5 == 0 {
			recs = append(recs, claim(rec.Claim.User, rec.Claim.Scene, rec.Time.Add(time.Hour)))
		}
		if i%50 == 0 {
			recs = append(recs, switched(fmt.Sprint("partner/", i%3), "held_open", rec.Time))
		}
	}
	for i := 0; i < len(recs); i += 100 {
		ok(t, log.Append(t.Context(), recs[i:min(i+100, len(recs))]...))
	}
	return recs
}

func countSwitched(recs []*fallbacklog.Record) (n int) {
	for _, rec := range recs {
		if rec.Switch != nil {
			n++
		}
	}
	return n
}

// matches checks that the ledger has what the records say, each once.
func matches(t *testing.T, l ledger.Ledger, node string, recs []*fallbacklog.Record) {
	t.Helper()
	equalClaims(t, l, rowsOf(node, recs))
	entries, _, err := l.AuditLog(t.Context(), ledger.AuditFilter{Action: ledger.ActionSwitch}, ledger.MaxPage)
	ok(t, err)
	equal(t, "changes of switches", len(entries), countSwitched(recs))
}

func liveTail(t *testing.T, e Engine) {
	log := openLog(t, t.TempDir(), "a")
	l := open(t, e, "a", time.Now)
	recs := write(t, log, 500)
	f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
	caughtUp(t, f, log)
	matches(t, l, "a", recs)
	before := time.Now()
	rec := claim("late", "rain", time.Now().UTC())
	ok(t, log.Append(t.Context(), rec))
	recs = append(recs, rec)
	caughtUp(t, f, log)
	matches(t, l, "a", recs)
	if asOf := f.AsOf(); asOf.Before(before) {
		t.Fatalf("a follower at the end is as of %v, want %v or later", asOf, before)
	}
	_, asOf, _, err := l.UserClaims(t.Context(), "late", ledger.Cursor{}, 1)
	ok(t, err)
	if asOf.Before(rec.Time) {
		t.Fatalf("claims are as of %v, want %v or later", asOf, rec.Time)
	}
	stop()
}

func killedFollowers(t *testing.T, e Engine) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	log := openLog(t, t.TempDir(), "a")
	recs := write(t, log, 1500)
	for round := 0; ; round++ {
		l := e.Open(t, "a", time.Now)
		applies := &stopper{Ledger: l, left: 1 + random.IntN(6), stopped: make(chan struct{})}
		f, stop := following(t, ledger.FollowerOptions{Log: log, Store: applies, BatchRecords: 1 + random.IntN(200)})
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		go func() { done <- f.Wait(ctx, log.End()) }()
		var err error
		select {
		case <-applies.stopped:
			stop()
			cancel()
			<-done
			ok(t, l.Close())
			continue
		case err = <-done:
		}
		cancel()
		ok(t, err)
		stop()
		if round == 0 {
			t.Fatal("no follower was stopped")
		}
		matches(t, l, "a", recs)
		ok(t, l.Close())
		return
	}
}

// stopper lets a number of batches through, then says that it is time to stop,
// and blocks.
type stopper struct {
	ledger.Ledger
	left    int
	stopped chan struct{}
}

func (s *stopper) Apply(ctx context.Context, b *ledger.Batch) error {
	if s.left == 0 {
		close(s.stopped)
		<-ctx.Done()
		return ctx.Err()
	}
	s.left--
	return s.Ledger.Apply(ctx, b)
}

func failingStore(t *testing.T, e Engine) {
	log := openLog(t, t.TempDir(), "a")
	l := open(t, e, "a", time.Now)
	recs := write(t, log, 600)
	faulty := &faulty{Ledger: l}
	f, _ := following(t, ledger.FollowerOptions{Log: log, Store: faulty, BatchRecords: 100})
	caughtUp(t, f, log)
	matches(t, l, "a", recs)
	if n := faulty.calls.Load(); n < 6 {
		t.Fatalf("%d batches, want at least 6", n)
	}
	equal(t, "error of a follower that follows", f.Err(), nil)
}

// faulty fails every third batch, once before and once after it was applied.
type faulty struct {
	ledger.Ledger
	calls atomic.Int64
}

func (s *faulty) Apply(ctx context.Context, b *ledger.Batch) error {
	switch s.calls.Add(1) % 6 {
	case 2:
		return fmt.Errorf("not applied: %w", disk.ErrFull)
	case 5:
		if err := s.Ledger.Apply(ctx, b); err != nil {
			return err
		}
		return fmt.Errorf("applied: the answer was lost")
	}
	return s.Ledger.Apply(ctx, b)
}

func rebuild(t *testing.T, e Engine) {
	log := openLog(t, t.TempDir(), "a")
	recs := write(t, log, 800)
	type answers struct {
		Claims   map[string][]ledger.ClaimRow
		Switches []ledger.Switch
		Audit    []ledger.Entry
	}
	ask := func() (a answers) {
		l := e.Open(t, "a", time.Now)
		defer l.Close()
		f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
		defer stop()
		caughtUp(t, f, log)
		a.Claims = map[string][]ledger.ClaimRow{}
		for user := range rowsOf("a", recs) {
			a.Claims[user] = allClaims(t, l, user, 10)
		}
		var err error
		a.Switches, err = l.Switches(t.Context())
		ok(t, err)
		a.Audit, _, err = l.AuditLog(t.Context(), ledger.AuditFilter{}, ledger.MaxPage)
		ok(t, err)
		return a
	}
	before := ask()
	if len(before.Claims) == 0 || len(before.Switches) == 0 || len(before.Audit) == 0 {
		t.Fatalf("nothing to compare: %+v", before)
	}
	e.LoseDerived(t)
	l := e.Open(t, "a", time.Now)
	at, err := l.Position(t.Context(), "a")
	ok(t, err)
	equal(t, "position after the loss", at, 0)
	ok(t, l.Close())
	equal(t, "answers", ask(), before)
}

// followed makes a ledger that has followed a log of n claims to its end.
func followed(t *testing.T, e Engine, n int) ledger.Ledger {
	t.Helper()
	log := openLog(t, t.TempDir(), "a")
	l := open(t, e, "a", time.Now)
	write(t, log, n)
	f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
	caughtUp(t, f, log)
	stop()
	return l
}

func shorterLog(t *testing.T, e Engine) {
	l := followed(t, e, 900)
	log := openLog(t, t.TempDir(), "a")
	recs := []*fallbacklog.Record{claim("u1", "new", start()), claim("other", "new", start())}
	ok(t, log.Append(t.Context(), recs...))
	f, _ := following(t, ledger.FollowerOptions{Log: log, Store: l})
	waitForRebuild(t, f, l, log)
	matches(t, l, "a", recs)
	equal(t, "claims of the old log", len(allClaims(t, l, "u2", 100)), 0)
}

func otherLog(t *testing.T, e Engine) {
	l := followed(t, e, 100)
	log := openLog(t, t.TempDir(), "a")
	rec := claim("someone", "else", start())
	ok(t, log.Append(t.Context(), rec))
	recs := append([]*fallbacklog.Record{rec}, write(t, log, 300)...)
	f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
	waitForRebuild(t, f, l, log)
	stop()
	matches(t, l, "a", recs)

	// One whose records lie at the very same positions.
	twin := openLog(t, t.TempDir(), "a")
	var others []*fallbacklog.Record
	for _, rec := range recs {
		other := *rec
		if rec.Claim != nil {
			other = *claim("v"+rec.Claim.User[1:], rec.Claim.Scene, rec.Time)
		}
		if rec.Event != nil {
			e := *rec.Event
			e.Order = e.Claim.OrderID("other")
			other.Event = &e
		}
		other.At = 0
		others = append(others, &other)
	}
	ok(t, twin.Append(t.Context(), others[0]))
	for i := 1; i < len(others); i += 100 {
		ok(t, twin.Append(t.Context(), others[i:min(i+100, len(others))]...))
	}
	if last, same := others[len(others)-1].At, recs[len(recs)-1].At; last != same {
		t.Fatalf("the other log's last record is at %v, want %v", last, same)
	}
	f, _ = following(t, ledger.FollowerOptions{Log: twin, Store: l})
	waitForRebuild(t, f, l, twin)
	matches(t, l, "a", others)
	equal(t, "claims of the old log", len(allClaims(t, l, "u1", 100)), 0)
}

// unmarkedPlace: a log of outcomes alone was followed, then another one put in
// its place.
func unmarkedPlace(t *testing.T, e Engine) {
	log := openLog(t, t.TempDir(), "a")
	recs := write(t, log, 300)
	l := open(t, e, "a", time.Now)
	for _, at := range []fallbacklog.Position{recs[200].At, log.End(), fallbacklog.At(99, 256)} {
		ok(t, l.Reset(t.Context(), "a"))
		ok(t, l.Apply(t.Context(), &ledger.Batch{Node: "a", Through: ledger.Place{Position: at, AsOf: start()}}))
		f, stop := following(t, ledger.FollowerOptions{Log: log, Store: l})
		caughtUp(t, f, log)
		stop()
		matches(t, l, "a", recs)
	}
}

// waitForRebuild waits until the ledger has the log, and not more than that.
func waitForRebuild(t *testing.T, f *ledger.Follower, l ledger.Ledger, log *fallbacklog.Log) {
	t.Helper()
	caughtUp(t, f, log)
	at, err := l.Position(t.Context(), "a")
	ok(t, err)
	if at > log.End() {
		t.Fatalf("the ledger stands at %v, the log ends at %v", at, log.End())
	}
}

func readsWhileFollowing(t *testing.T, e Engine) {
	log := openLog(t, t.TempDir(), "a")
	l := open(t, e, "a", time.Now)
	const claims = 1200
	f, _ := following(t, ledger.FollowerOptions{Log: log, Store: l, BatchRecords: 64})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			seen := 0
			for ctx.Err() == nil {
				rows, _, _, err := l.UserClaims(ctx, "u1", ledger.Cursor{}, ledger.MaxPage)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if len(rows) < seen {
					t.Errorf("%d claims after %d", len(rows), seen)
					return
				}
				seen = len(rows)
				reads.Add(1)
				if err := l.Audit(ctx, ledger.Entry{Who: "ana", Action: "look"}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	recs := write(t, log, claims)
	caughtUp(t, f, log)
	cancel()
	readers.Wait()
	if reads.Load() == 0 {
		t.Fatal("nothing was read")
	}
	matches(t, l, "a", recs)
}
