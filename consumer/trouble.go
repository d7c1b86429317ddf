package consumer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/internal/notice"
)

// trouble remembers whether something that a lane needs can be had, so that it is
// told when that changes and not with every order.
type trouble struct {
	told *notice.Changing

	mu  sync.Mutex
	err error
}

// note remembers how the last try went, and tells when that changes.
func (t *trouble) note(err error) {
	t.mu.Lock() // until it is told: of two changes the later one is told later
	defer t.mu.Unlock()
	before := t.err
	t.err = err
	switch {
	case err != nil && before == nil:
		t.told.Tell(slog.LevelError, "what the cluster's consumers share is not to be had; orders of partners that cannot dedupe wait, and of claims that may have several gifts", "err", err)
	case err == nil && before != nil:
		t.told.Tell(slog.LevelInfo, "what the cluster's consumers share is back", "was", before)
	}
}

// stall is what holds a lane up: orders that cannot go on before the ledger answers, and
// behind them all others. It is safe for concurrent use.
type stall struct {
	told  *notice.Changing
	gauge prometheus.Gauge

	mu     sync.Mutex // guards the next fields
	orders int        // that wait
	since  time.Time
	err    error // why
}

// begin has one more order wait, for this reason.
func (s *stall) begin(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if s.orders++; s.orders > 1 {
		return
	}
	s.since = time.Now()
	s.gauge.Set(1)
	s.told.Tell(slog.LevelError, "orders of the lane wait for the ledger", "err", err)
}

// still renews the reason for which orders wait: one of them has asked again.
func (s *stall) still(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// end has one that waited go on, or be let go.
func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orders--; s.orders > 0 {
		return
	}
	s.gauge.Set(0)
	s.told.Tell(slog.LevelInfo, "orders of the lane do not wait for the ledger any more", "waited", time.Since(s.since).Round(time.Millisecond))
	s.err = nil
}

// why is the reason in one line; "" where no order waits.
func (s *stall) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return ""
	}
	return brief(s.err)
}

// await waits before the ledger is asked again; its error is ctx's. From the first time
// on until onward the order is one that holds the lane up.
func (d *delivering) await(ctx context.Context, why error) error {
	if d.waits {
		d.stall.still(why)
	} else {
		d.waits = true
		d.stall.begin(why)
	}
	select {
	case <-time.After(retryPause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onward ends what await began.
func (d *delivering) onward() {
	if d.waits {
		d.waits = false
		d.stall.end()
	}
}
