//go:build engines

package producer

import (
	"context"
	"crypto/rand"
	random "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger/postgres"
	"manna/ops/local/engines"
)

// parting opens the ledger of nodes on a real server, in a schema of the test's own.
func parting(t *testing.T, dsn string) (open func(node string) landlord) {
	schema := "test_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Fatal(err)
		}
	})
	return func(node string) landlord {
		l, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Schema: schema, Node: node, Connections: 4, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
}

func TestExactlyTheStockIsGivenByPostgreSQL(t *testing.T) {
	open := parting(t, engines.Up(t, engines.Postgres).DSN())
	pause := func(r *random.Rand) { time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond) }
	exactly(t, 900, 4, open, pause, func() {})
}

// A server that is killed, and one that hangs, stop no claim that this node has
// stock for, and none for long.
func TestPostgreSQLIsAway(t *testing.T) {
	e := engines.Up(t, engines.Postgres)
	l := parting(t, e.DSN())("a")
	for name, c := range map[string]struct{ away, back func(string) }{
		"killed": {e.Kill, e.Start}, "hung": {e.Pause, e.Resume},
	} {
		t.Run(name, func(t *testing.T) {
			a := leasing(t, l, "a", stocked(t, 100_000))
			a.running()
			a.claim(Request{Campaign: "spring", User: "first"})
			c.away(engines.Postgres)
			n, end := a.drain(name)
			if n == 0 || end != gift.Unavailable {
				t.Errorf("%d claims, and then %s", n, end)
			}
			for i := range 20 {
				began := time.Now()
				a.refused(Request{Campaign: "spring", User: "more" + user(i)}, gift.Unavailable)
				if waited := time.Since(began); waited > 2*patient {
					t.Errorf("claim %d waited %v", i, waited)
				}
			}
			c.back(engines.Postgres)
			for deadline := time.Now().Add(30 * time.Second); ; {
				if _, err := a.Claim(t.Context(), Request{Campaign: "spring", User: "last"}); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatal(err)
				}
				time.Sleep(lessorEvery)
			}
		})
	}
}
