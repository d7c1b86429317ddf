package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"
)

// Another program may have a file locked: a backup, somebody's shell. Who opens
// the ledger hears of it soon, and of nothing once the lock is gone.
func TestLockedFileIsToldSoon(t *testing.T) {
	for _, which := range []string{DerivedFile, KeptFile} {
		t.Run(which, func(t *testing.T) {
			dir := t.TempDir()
			l, _ := openIn(t, dir)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			other, err := sql.Open("sqlite", filepath.Join(dir, which))
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			other.SetMaxOpenConns(1)
			if _, err := other.Exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = Open(t.Context(), Options{Dir: dir, Node: "a"})
			wantLine(t, err, nil, which, "locked")
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("told after %v", took)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
			l, said := openIn(t, dir)
			if err := l.Ping(t.Context()); err != nil || said.Len() > 0 {
				t.Errorf("once the lock is gone: %v\n%s", err, said)
			}
		})
	}
}
