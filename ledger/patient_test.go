package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"manna/ledger"
	"manna/ledger/ledgertest"
	"manna/ledger/sqlite"
)

// patientHome opens the ledger of a directory with patience.
type patientHome struct{ dir string }

func (h patientHome) Open(t testing.TB, node string, now func() time.Time) ledger.Ledger {
	t.Helper()
	p := ledger.NewPatient(func(ctx context.Context) (ledger.Ledger, error) {
		return sqlite.Open(ctx, sqlite.Options{Dir: h.dir, Node: node, Now: now})
	}, slog.New(slog.DiscardHandler))
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (h patientHome) LoseDerived(t testing.TB) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(h.dir, sqlite.DerivedFile+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestPatientLedgerIsALedger(t *testing.T) {
	ledgertest.Run(t, func(t testing.TB) ledgertest.Engine { return patientHome{t.TempDir()} })
}

// stuck is a ledger that knows whether it was closed. It has no methods else.
type stuck struct {
	ledger.Ledger
	closed bool
}

func (s *stuck) Ping(context.Context) error { return nil }
func (s *stuck) Close() error               { s.closed = true; return nil }

func TestPatientLedgerIsOpenedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		locked, gone := errors.New("locked"), errors.New("no such directory")
		engine := &stuck{}
		tries, began := 0, time.Now()
		p := ledger.NewPatient(func(context.Context) (ledger.Ledger, error) {
			switch tries++; {
			case tries <= 20:
				return nil, locked
			case tries <= 40:
				return nil, gone
			}
			return engine, nil
		}, slog.New(slog.NewTextHandler(&said, nil)))
		done := make(chan error, 1)
		go func() { done <- p.Open(t.Context()) }()
		synctest.Wait()
		for name, err := range map[string]error{
			"ping":  p.Ping(t.Context()),
			"apply": p.Apply(t.Context(), &ledger.Batch{}),
			"audit": p.Audit(t.Context(), ledger.Entry{}),
		} {
			if !errors.Is(err, ledger.ErrNotOpen) || !errors.Is(err, locked) {
				t.Errorf("%s before it is open: got %v, want why it is not", name, err)
			}
		}
		<-p.Opened()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Ping(t.Context()); err != nil {
			t.Errorf("once it is open: %v", err)
		}
		if took := time.Since(began); tries != 41 || took < time.Minute || took > 10*time.Minute {
			t.Errorf("%d tries in %v", tries, took)
		}
		// One line for each reason, and one for the end.
		if got := strings.Count(said.String(), "level=ERROR"); got != 2 || !strings.Contains(said.String(), "tries=41") {
			t.Errorf("the log says\n%s", said.String())
		}
		if err := p.Close(); err != nil || !engine.closed {
			t.Errorf("closed: %t, %v", engine.closed, err)
		}
	})
}

func TestPatientLedgerEndsWithItsContextAndItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithCancel(t.Context())
		p := ledger.NewPatient(func(context.Context) (ledger.Ledger, error) { return nil, errors.New("locked") }, logger)
		done := make(chan error, 1)
		go func() { done <- p.Open(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		// What is opened after the close is closed at once.
		engine, late := &stuck{}, make(chan struct{})
		p = ledger.NewPatient(func(context.Context) (ledger.Ledger, error) { <-late; return engine, nil }, logger)
		go func() { done <- p.Open(t.Context()) }()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		close(late)
		if err := <-done; err != nil || !engine.closed {
			t.Errorf("closed: %t, %v", engine.closed, err)
		}
		if err := p.Ping(t.Context()); !errors.Is(err, ledger.ErrNotOpen) {
			t.Errorf("after the close: %v", err)
		}
	})
}
