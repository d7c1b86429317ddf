//go:build engines

package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger"
)

// TestSweepLeavesWhatIsConcludedMeanwhile: a query finds that a refused attempt was
// granted after all, at the very moment at which its mark is swept.
func TestSweepLeavesWhatIsConcludedMeanwhile(t *testing.T) {
	h := newHome(t, dsn(t))
	ctx := t.Context()
	now := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	l := h.open(t, "a", func() time.Time { return now })
	defer l.Close()
	a := ledger.Attempt{Order: claimOf(1).Claim.Orders[0].ID, Number: 1, Node: "a", Epoch: 1}
	if err := l.Conclude(ctx, []ledger.Conclusion{{Attempt: a, State: gift.StateRefused}}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(ctx, "UPDATE "+h.schema+".marks SET concluded = $1, concluded_at = $2", int16(gift.StateGranted), nanos(now.Add(2*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	swept := make(chan error, 1)
	go func() {
		n, err := l.Sweep(ctx, now.Add(time.Hour), 10)
		if n != 0 {
			t.Errorf("%d marks were swept", n)
		}
		swept <- err
	}()
	for waits := false; !waits; {
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	got, err := l.Highest(ctx, []gift.OrderID{a.Order})
	if err != nil || got[a.Order].Concluded != gift.StateGranted {
		t.Errorf("after the sweep %+v (%v), want the grant", got, err)
	}
}
