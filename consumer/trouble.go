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

// to notes how the last try went.
func (t *trouble) to(err error) {
	t.mu.Lock()
	before := t.err
	t.err = err
	t.mu.Unlock()
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

// hold notes why orders wait, and that so many more do.
func (s *stall) hold(more int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.orders == 0
	s.orders += more
	s.err = err
	if !first {
		return
	}
	s.since = time.Now()
	s.gauge.Set(1)
	s.told.Tell(slog.LevelError, "orders of the lane wait for the ledger", "err", err)
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

// why is the reason; "" where no order waits.
func (s *stall) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return ""
	}
	return s.err.Error()
}

// await waits before the ledger is asked again; its error is ctx's. From the first time
// on until onward the order is one that holds the lane up.
func (d *delivering) await(ctx context.Context, why error) error {
	more := 1
	if d.waits {
		more = 0
	}
	d.waits = true
	d.stall.hold(more, why)
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
