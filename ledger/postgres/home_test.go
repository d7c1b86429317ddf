//go:build engines

package postgres

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
	"manna/ledger/ledgertest"
	"manna/ops/local/engines"
)

// dsn is the real server's, which the test has to itself until it ends: a test asks
// once, not again in its subtests, which would wait for it.
func dsn(t testing.TB) string {
	t.Helper()
	return engines.Up(t, engines.Postgres).DSN()
}

// home is a schema of its own, as the suite sees it.
type home struct{ dsn, schema string }

func newHome(t testing.TB, dsn string) home {
	t.Helper()
	h := home{dsn: dsn, schema: "test_" + strings.ToLower(rand.Text()[:12])}
	t.Cleanup(func() { h.exec(t, "DROP SCHEMA IF EXISTS "+h.schema+" CASCADE") })
	return h
}

// exec runs statements outside of the ledger, in its schema.
func (h home) exec(t testing.TB, statements string) {
	t.Helper()
	// The test's own context has ended when a clean-up calls.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SET search_path = "+h.schema+"; "+statements); err != nil {
		t.Fatal(err)
	}
}

func (h home) options(node string) Options { return Options{DSN: h.dsn, Schema: h.schema, Node: node} }

func (h home) Open(t testing.TB, node string, now func() time.Time) ledger.Ledger {
	return h.open(t, node, now)
}

func (h home) open(t testing.TB, node string, now func() time.Time) *Ledger {
	t.Helper()
	opts := h.options(node)
	opts.Now = now
	opts.Connections = 4
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (h home) LoseDerived(t testing.TB) {
	t.Helper()
	h.exec(t, "TRUNCATE claims, orders, outcomes, switched, refusals, followed")
}

func TestConformance(t *testing.T) {
	dsn := dsn(t)
	ledgertest.Run(t, func(t testing.TB) ledgertest.Engine { return newHome(t, dsn) })
}

func TestClusterConformance(t *testing.T) {
	dsn := dsn(t)
	ledgertest.RunCluster(t, func(t testing.TB) ledgertest.Opener {
		h := newHome(t, dsn)
		return func(t testing.TB, node string, now func() time.Time) ledger.Cluster { return h.open(t, node, now) }
	})
}
