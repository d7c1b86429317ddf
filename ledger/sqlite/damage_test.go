package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/ledger"
)

func claimRecord(i int) *fallbacklog.Record {
	user, at := fmt.Sprint("user-", i), time.Date(2027, 2, 5, 12, 0, 0, i, time.UTC)
	id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
		ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: at, DeliverBy: at.Add(time.Hour)}}
}

// logOf opens a log with the claims of n users.
func logOf(t *testing.T, n int) *fallbacklog.Log {
	t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: t.TempDir(), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	appendClaims(t, log, 0, n)
	return log
}

func appendClaims(t *testing.T, log *fallbacklog.Log, from, to int) {
	t.Helper()
	for from < to {
		var recs []*fallbacklog.Record
		for ; from < to && len(recs) < 500; from++ {
			recs = append(recs, claimRecord(from))
		}
		if err := log.Append(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
	}
}

// follow runs a follower until stop is called or the test ends.
func follow(t *testing.T, log *fallbacklog.Log, store ledger.Store) (f *ledger.Follower, stop func()) {
	t.Helper()
	f, err := ledger.NewFollower(ledger.FollowerOptions{Log: log, Store: store, BatchRecords: 250})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return f, stop
}

func wait(t *testing.T, f *ledger.Follower, log *fallbacklog.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.Wait(ctx, log.End()); err != nil {
		t.Fatalf("at %v of %v: %v (%v)", f.Position(), log.End(), err, f.Err())
	}
}

// countClaims counts rows, so that a claim applied twice cannot hide.
func countClaims(t *testing.T, l *Ledger) (n int) {
	t.Helper()
	err := l.derived.reading(t.Context(), func(db *sql.DB) error {
		return db.QueryRow("SELECT count(*) FROM claims").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (l *Ledger) execute(t *testing.T, f *file, query string) {
	t.Helper()
	if _, err := f.write.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableFilesAreSetAside(t *testing.T) {
	const n = 900
	foreign := func(t *testing.T, path string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE theirs (x)"); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"noise":             func(t *testing.T, path string) { writeFile(t, path, bytes.Repeat([]byte("noise"), 4000)) },
		"a short file":      func(t *testing.T, path string) { writeFile(t, path, []byte("SQLite")) },
		"a cut file":        func(t *testing.T, path string) { cut(t, path, 4096) },
		"another program's": func(t *testing.T, path string) { os.Remove(path); foreign(t, path) },
	} {
		for _, which := range []string{DerivedFile, KeptFile} {
			t.Run(name+" as "+which, func(t *testing.T) {
				log, dir := logOf(t, n), t.TempDir()
				for round := 1; round <= 2; round++ {
					l, _ := openIn(t, dir)
					f, stop := follow(t, log, l)
					wait(t, f, log)
					stop()
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					path := filepath.Join(dir, which)
					damage(t, path)
					damaged, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}

					l, said := openIn(t, dir)
					aside := fmt.Sprintf("%s.damaged-%d", path, round)
					if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), aside) {
						t.Fatalf("the log does not name %s:\n%s", aside, said)
					}
					if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, damaged) {
						t.Fatalf("%s does not hold the damaged file: %v", aside, err)
					}
					f, stop = follow(t, log, l)
					wait(t, f, log)
					stop()
					if got := countClaims(t, l); got != n {
						t.Fatalf("%d claims after the rebuild, want %d", got, n)
					}
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func TestDamageMetWhileFollowingIsRebuilt(t *testing.T) {
	const n = 4000
	log := logOf(t, n)
	l, said := openIn(t, t.TempDir())
	f, stop := follow(t, log, l)
	wait(t, f, log)
	stop()
	loseRows(t, l)
	f, _ = follow(t, log, l)
	appendClaims(t, log, n, n+1000)
	wait(t, f, log)
	if got := countClaims(t, l); got != n+1000 {
		t.Fatalf("%d claims, want %d", got, n+1000)
	}
	if !strings.Contains(said.String(), DerivedFile+".damaged-1") {
		t.Fatalf("nobody was told:\n%s", said)
	}
	if err := l.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// loseRows lets the disk lose every page but the schema's: a checkpoint brings
// the pages into the file, and a small cache makes SQLite read them again.
func loseRows(t *testing.T, l *Ledger) {
	t.Helper()
	for _, pragma := range []string{"wal_checkpoint(TRUNCATE)", "cache_size = 1", "shrink_memory"} {
		l.execute(t, &l.derived, "PRAGMA "+pragma)
	}
	h, err := os.OpenFile(l.derived.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(bytes.Repeat([]byte{0xee}, int(info.Size())-4096), 4096); err != nil {
		t.Fatal(err)
	}
}

func TestDamageMetByAReaderIsRebuilt(t *testing.T) {
	const n = 4000
	log := logOf(t, n)
	l, _ := openIn(t, t.TempDir())
	f, _ := follow(t, log, l)
	wait(t, f, log)
	loseRows(t, l)
	_, _, _, err := l.UserClaims(t.Context(), "user-7", ledger.Cursor{}, 1)
	if !errors.Is(err, ledger.ErrDamaged) {
		t.Fatalf("error %v, want damage", err)
	}
	// The log is at rest: the follower learns of it all the same.
	rebuilt := until(t, func() bool {
		claims, _, _, err := l.UserClaims(t.Context(), "user-7", ledger.Cursor{}, 1)
		return err == nil && len(claims) == 1
	})
	if !rebuilt {
		t.Fatal("the ledger was not rebuilt")
	}
	wait(t, f, log)
	if got := countClaims(t, l); got != n {
		t.Fatalf("%d claims, want %d", got, n)
	}
}

func TestNewerSchemaIsRefusedAndLeftAlone(t *testing.T) {
	for _, which := range []string{DerivedFile, KeptFile} {
		dir := t.TempDir()
		l, _ := openIn(t, dir)
		f := &l.derived
		if which == KeptFile {
			f = &l.kept
		}
		l.execute(t, f, "PRAGMA user_version = 99")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(dir, which))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), Options{Dir: dir, Node: "a"})
		wantLine(t, err, ledger.ErrNewer, which, "schema is 99")
		after, err := os.ReadFile(filepath.Join(dir, which))
		if err != nil || !bytes.Equal(after, before) {
			t.Fatalf("%s was touched (%v)", which, err)
		}
		if aside, _ := filepath.Glob(filepath.Join(dir, "*.damaged-*")); len(aside) > 0 {
			t.Fatalf("set aside: %v", aside)
		}
	}
}

func TestFullDiskIsWaitedOut(t *testing.T) {
	const n = 6000
	log := logOf(t, n)
	l, said := openIn(t, t.TempDir())
	l.execute(t, &l.derived, "PRAGMA max_page_count = 40")
	err := l.Apply(t.Context(), bigBatch(4000))
	wantLine(t, err, disk.ErrFull, DerivedFile)
	if got := countClaims(t, l); got != 0 {
		t.Fatalf("a batch that failed left %d claims", got)
	}
	f, _ := follow(t, log, l)
	full := until(t, func() bool { return f.Err() != nil })
	if !full {
		t.Fatal("the follower did not notice")
	}
	at := f.Position()
	if claims, _, _, err := l.UserClaims(t.Context(), "user-0", ledger.Cursor{}, 1); err != nil || len(claims) != 1 {
		t.Fatalf("reads on a full disk: %v, %v", claims, err)
	}
	if at == 0 || at >= log.End() {
		t.Fatalf("the follower stands at %v, want a place before %v", at, log.End())
	}
	l.execute(t, &l.derived, "PRAGMA max_page_count = 1000000")
	wait(t, f, log)
	if got := countClaims(t, l); got != n {
		t.Fatalf("%d claims, want %d", got, n)
	}
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(said.String(), "level=ERROR"); got > 1 {
		t.Fatalf("%d errors in the log:\n%s", got, said)
	}
}

func bigBatch(n int) *ledger.Batch {
	b := &ledger.Batch{Node: "a"}
	for i := range n {
		rec := claimRecord(i)
		rec.At = fallbacklog.At(1, uint32(256+i))
		b.Add(rec)
	}
	b.Through.Position = fallbacklog.At(1, uint32(256+n))
	return b
}

// until polls for a state that nothing signals.
func until(t *testing.T, done func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// wantLine checks that err is one line, of a kind, that says all of words.
func wantLine(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if err == nil || kind != nil && !errors.Is(err, kind) {
		t.Fatalf("error %v, want %v", err, kind)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("an error of several lines: %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("error %q does not say %q", err, w)
		}
	}
}
