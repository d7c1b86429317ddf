//go:build engines

package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
)

// said is a log that may be read while it is written.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) times(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), what)
}

// held locks a table until it is let go.
func (h home) held(t *testing.T, table string) (letGo func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE "+h.schema+"."+table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { conn.Close(context.WithoutCancel(t.Context())) })
}

// fewSessions checks that calls which came to nothing left no sessions behind.
func (h home) fewSessions(t *testing.T, application string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", application).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n > 4 { // the pool's, the guard of the migration, and what makes it
		t.Errorf("%d sessions of %q", n, application)
	}
}

// TestMigrationOutlastsEveryCall: one that takes far longer than calls may is made
// once, whoever loses patience, and meanwhile says so.
func TestMigrationOutlastsEveryCall(t *testing.T) {
	h := newHome(t, dsn(t))
	h.open(t, "a", nil).Close()
	h.exec(t, "DELETE FROM "+versions+" WHERE version_id >= 3") // which may be made again
	letGo := h.held(t, "nodes")
	const timeout = 300 * time.Millisecond
	log := new(said)
	opts := h.options("a")
	opts.Timeout, opts.Later, opts.Logger = timeout, true, slog.New(slog.NewTextHandler(log, nil))
	began := time.Now()
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	patient := make(chan error, 1)
	var all sync.WaitGroup
	defer all.Wait()
	defer letGo()
	all.Go(func() {
		opts := h.options("b")
		opts.Timeout = timeout
		b, err := Open(t.Context(), opts)
		if err == nil {
			err = b.Close()
		}
		patient <- err
	})
	tick := time.NewTicker(timeout / 2)
	defer tick.Stop()
	for time.Since(began) < 2*batchFactor*timeout {
		hasty, cancel := context.WithTimeout(t.Context(), timeout/4)
		before := time.Now()
		err := l.Ping(hasty)
		cancel()
		if !errors.Is(err, ledger.ErrUnavailable) || !strings.Contains(err.Error(), "is being prepared") || strings.Contains(err.Error(), "reached") {
			t.Fatalf("a call during a migration: %v", err)
		}
		if took := time.Since(before); took > timeout {
			t.Fatalf("it took %v to say that the schema is being prepared", took)
		}
		<-tick.C
	}
	h.fewSessions(t, "manna a")
	if n := log.times("CREATE OR REPLACE VIEW lags"); n != 1 {
		t.Errorf("the log has the statement that is being made %d times, want once", n)
	}
	select {
	case err := <-patient:
		t.Fatalf("a node that waits for the schema gave up: %v", err)
	default:
	}
	letGo()
	if err := <-patient; err != nil {
		t.Errorf("a node that waited for the schema: %v", err)
	}
	reaches(t, l)
	if n := log.times("CREATE OR REPLACE VIEW lags"); n > 1 {
		t.Errorf("the migration was begun %d times", n)
	}
}

func TestCloseBreaksAMigrationOff(t *testing.T) {
	h := newHome(t, dsn(t))
	h.open(t, "a", nil).Close()
	h.exec(t, "DELETE FROM "+versions+" WHERE version_id >= 3")
	letGo := h.held(t, "nodes")
	defer letGo()
	opts := h.options("a")
	opts.Timeout, opts.Later = 300*time.Millisecond, true
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := l.Ping(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a call after Close: %v", err)
	}
	letGo()
	h.open(t, "a", nil).Close()
}

func TestLookChangesNothing(t *testing.T) {
	h := newHome(t, dsn(t))
	ctx := t.Context()
	look := func() (*Ledger, error) {
		l, err := Look(ctx, h.options("a"))
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return l, err
	}
	_, err := look()
	refusal(t, err, "the first node that starts makes it")
	if found, err := Check(ctx, h.options("a")); err != nil || !strings.Contains(found, "will be created") {
		t.Fatalf("after a look: %s (%v)", found, err)
	}

	l := h.open(t, "a", nil)
	defer l.Close()
	run, err := l.StartRun(ctx, ledger.RunStart{ID: "r", Node: "a", Slot: time.Now(), Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(ctx, ledger.Process{Node: "b", Home: "disk"}); err != nil {
		t.Fatal(err)
	}
	looking, err := look()
	if err != nil {
		t.Fatal(err)
	}
	if err := looking.Lose(ctx, "b", "ana"); err != nil {
		t.Fatal(err)
	}
	if nodes, _, err := looking.Nodes(ctx); err != nil || len(nodes) != 1 || nodes[0].State != ledger.NodeLost {
		t.Errorf("nodes %+v (%v)", nodes, err)
	}
	if err := l.RenewRun(ctx, run.ID, run.Epoch, time.Minute); err != nil {
		t.Errorf("the node's run did not outlive a look: %v", err)
	}

	h.exec(t, "DELETE FROM "+versions+" WHERE version_id > 1")
	_, err = look()
	refusal(t, err, "it is at version 1 and this program wants")
	h.exec(t, "INSERT INTO "+versions+" (version_id, is_applied) VALUES (99, true)")
	if _, err = look(); !errors.Is(err, ledger.ErrNewer) {
		t.Errorf("error %v, want %v", err, ledger.ErrNewer)
	}
}
