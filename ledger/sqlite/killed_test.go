package sqlite

import (
	"context"
	"os"
	"testing"

	"manna/fallbacklog"
	"manna/ledger"
)

// A process that is killed leaves the files as they are: a copy taken while the
// ledger is open is what the next process finds.
func TestKilledProcessAppliesEachRecordOnce(t *testing.T) {
	const n = 3000
	log := logOf(t, n)
	dir := t.TempDir()
	l, _ := openIn(t, dir)
	killed := &killing{Ledger: l, t: t, from: dir, to: t.TempDir(), after: 5}
	f, stop := follow(t, log, killed)
	wait(t, f, log)
	stop()
	next, said := openIn(t, killed.to)
	at, err := next.Position(t.Context(), "a")
	if err != nil || at != killed.at || countClaims(t, next) != 5*250 {
		t.Fatalf("the next process finds %d claims and place %v (%v), want %d and %v", countClaims(t, next), at, err, 5*250, killed.at)
	}
	f, _ = follow(t, log, next)
	wait(t, f, log)
	if got := countClaims(t, next); got != n {
		t.Fatalf("%d claims, want %d", got, n)
	}
	if said.Len() > 0 {
		t.Fatalf("the log says:\n%s", said)
	}
}

// killing copies the files of a ledger after a number of batches.
type killing struct {
	*Ledger
	t        *testing.T
	from, to string
	after    int
	at       fallbacklog.Position
}

func (k *killing) Apply(ctx context.Context, b *ledger.Batch) error {
	err := k.Ledger.Apply(ctx, b)
	if k.after--; k.after == 0 {
		k.at = b.Through.Position
		if err := os.CopyFS(k.to, os.DirFS(k.from)); err != nil {
			k.t.Error(err)
		}
	}
	return err
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	l, _ := openIn(t, dir)
	if err := l.Apply(t.Context(), bigBatch(10)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 4 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
	}
}
