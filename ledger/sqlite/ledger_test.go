package sqlite

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/ledger"
	"manna/ledger/ledgertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home is a directory as the suite sees it.
type home struct{ dir string }

func (h home) Open(t testing.TB, node string, now func() time.Time) ledger.Ledger {
	t.Helper()
	l, err := Open(t.Context(), Options{Dir: h.dir, Node: node, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (h home) LoseDerived(t testing.TB) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(h.dir, DerivedFile+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(t testing.TB) ledgertest.Engine {
		// A directory whose name would break a careless data source name.
		return home{filepath.Join(t.TempDir(), "a ledger?mode=ro#%41&x")}
	})
}

// openIn opens a ledger and gives what it logged.
func openIn(t *testing.T, dir string) (*Ledger, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	l, err := Open(t.Context(), Options{Dir: dir, Node: "a", Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, &said
}
