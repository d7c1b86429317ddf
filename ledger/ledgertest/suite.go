// Package ledgertest is the suite that every engine of the ledger passes. It
// follows real fallback logs and compares answers, so that it says nothing about
// how an engine keeps its rows.
package ledgertest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// Engine is one ledger's home: what is written through one opening is there in
// the next.
type Engine interface {
	// Open opens the ledger for a node, with the clock of leases and entries. The
	// suite closes it.
	Open(t testing.TB, node string, now func() time.Time) ledger.Ledger
	// LoseDerived throws away what is derived from the log, as an operator may.
	// No ledger is open meanwhile.
	LoseDerived(t testing.TB)
}

// Run puts an engine through the suite; fresh makes an empty home.
func Run(t *testing.T, fresh func(t testing.TB) Engine) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, e Engine)
	}{
		{"a user's claims come newest first, page by page", pagesOfClaims},
		{"user ids are any text and are told apart byte by byte", strangeUsers},
		{"a claim that logs hold several times is listed once", repeatedClaims},
		{"cursors of other lists are refused", strangeCursors},
		{"the last change of a switch counts", switches},
		{"a batch that does not go on from the place changes nothing", movedBatch},
		{"the oldest node's time is the answer's", oldestTime},
		{"resetting one node leaves the others", resetOne},
		{"a follower catches up and follows the live tail", liveTail},
		{"followers killed between batches apply each record once", killedFollowers},
		{"lost answers and failures of the store apply each record once", failingStore},
		{"what is derived comes back the same after it was lost", rebuild},
		{"a ledger beyond the log's end is rebuilt", shorterLog},
		{"a ledger that followed another log is rebuilt", otherLog},
		{"a place without a mark is not taken on trust", unmarkedPlace},
		{"reads while a follower writes see whole batches", readsWhileFollowing},
		{"a slot is run by one, in order", slots},
		{"of many who start a slot one gets it", contestedSlot},
		{"a run whose lease ended is fenced", fencedRun},
		{"a run that crashed with its process is started again", crashedRun},
		{"a run that failed is started again", failedRun},
		{"runs by hand take no slot", runsByHand},
		{"runs are listed page by page", pagesOfRuns},
		{"the audit is kept, filtered and paged", audit},
		{"runs and audit outlive what is derived", keptOutlivesDerived},
		{"a closed ledger says so", closed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

// start is when the tests' campaigns open.
func start() time.Time { return time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC) }

// clock is a clock that moves when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: start()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func open(t *testing.T, e Engine, node string, now func() time.Time) ledger.Ledger {
	t.Helper()
	l := e.Open(t, node, now)
	t.Cleanup(func() { l.Close() })
	return l
}

func openLog(t *testing.T, dir, node string) *fallbacklog.Log {
	t.Helper()
	l, err := fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: node, SegmentBytes: fallbacklog.MinSegment})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

// claim makes the record of the claim that user makes in scene.
func claim(user, scene string, at time.Time) *fallbacklog.Record {
	campaign := gift.NewCampaignID("spring")
	id := campaign.ClaimID(scene, user, "")
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
		ID: id, Campaign: "spring", Scene: scene, User: user, Gift: "vip", ClaimedAt: at, DeliverBy: at.Add(48 * time.Hour),
		Orders: []gift.Order{{ID: id.OrderID("vip-30"), Item: "vip-30", Partner: "midas", Quantity: 1}},
	}}
}

func switched(name, mode string, at time.Time) *fallbacklog.Record {
	return &fallbacklog.Record{Kind: fallbacklog.Switched, Time: at, Switch: &fallbacklog.Switch{Name: name, Mode: mode, Who: "ana", Why: "drill"}}
}

func granted(of *fallbacklog.Record) *fallbacklog.Record {
	o := of.Claim.Orders[0]
	return &fallbacklog.Record{Kind: fallbacklog.Granted, Time: of.Time, Event: &fallbacklog.Event{Order: o.ID, Claim: of.Claim.ID, Partner: o.Partner, Campaign: "spring"}}
}

// batch makes a batch of records that stand one position apart behind from.
func batch(node string, from fallbacklog.Position, recs ...*fallbacklog.Record) *ledger.Batch {
	b := &ledger.Batch{Node: node, From: from}
	for i, rec := range recs {
		rec.At = from + fallbacklog.Position(i)
		b.Add(rec)
	}
	b.Through.Position = from + fallbacklog.Position(len(recs))
	return b
}

// allClaims reads all pages of a user's claims.
func allClaims(t *testing.T, l ledger.Claims, user string, limit int) []ledger.ClaimRow {
	t.Helper()
	var all []ledger.ClaimRow
	var at ledger.Cursor
	for {
		page, _, next, err := l.UserClaims(t.Context(), user, at, limit)
		ok(t, err)
		if len(page) > limit {
			t.Fatalf("a page of %d for a limit of %d", len(page), limit)
		}
		all = append(all, page...)
		if next.IsZero() {
			return all
		}
		// Cursors travel as text.
		if at, err = ledger.ParseCursor(next.String()); err != nil {
			t.Fatal(err)
		}
	}
}

// rowsOf says what the ledger has to know of claims in a log: each once, as it
// comes first, newest first.
func rowsOf(node string, recs []*fallbacklog.Record) map[string][]ledger.ClaimRow {
	rows := map[string][]ledger.ClaimRow{}
	seen := map[gift.ClaimID]bool{}
	for _, rec := range recs {
		c := rec.Claim
		if c == nil || seen[c.ID] {
			continue
		}
		seen[c.ID] = true
		rows[c.User] = append(rows[c.User], ledger.ClaimRow{ID: c.ID, User: c.User, Campaign: c.Campaign, Scene: c.Scene, Stage: c.Stage,
			Gift: c.Gift, ClaimedAt: c.ClaimedAt, Node: node, At: rec.At})
	}
	for _, of := range rows {
		slices.SortFunc(of, func(a, b ledger.ClaimRow) int {
			if c := b.ClaimedAt.Compare(a.ClaimedAt); c != 0 {
				return c
			}
			return slices.Compare(b.ID[:], a.ID[:])
		})
	}
	return rows
}

func equalClaims(t *testing.T, l ledger.Claims, want map[string][]ledger.ClaimRow) {
	t.Helper()
	for user, rows := range want {
		equal(t, "claims of "+user, allClaims(t, l, user, 7), rows)
	}
}

// following runs a follower until stop is called, or the test ends.
func following(t *testing.T, o ledger.FollowerOptions) (f *ledger.Follower, stop func()) {
	t.Helper()
	f, err := ledger.NewFollower(o)
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the follower ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

// caughtUp waits until the ledger has all that is in the log.
func caughtUp(t *testing.T, f *ledger.Follower, log *fallbacklog.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.Wait(ctx, log.End()); err != nil {
		t.Fatalf("at %v of %v: %v (%v)", f.Position(), log.End(), err, f.Err())
	}
}
