package producer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"manna/fallbacklog"
)

// Replication is what `durability: replicated` needs: a claim is answered once the
// queue has it too.
type Replication struct {
	Feeder *Feeder
	// Broken reports whether the queue's breaker refuses, by itself or held by a
	// person. Nil: only waiting tells.
	Broken func() bool
	// Within bounds how long a claim waits for the queue; default 1 s.
	Within time.Duration
}

// breakerEvery is how often the queue's breaker is looked at.
const breakerEvery = 50 * time.Millisecond

// replication holds answers back until the queue has their claims. Where it does
// not get them it is degraded, and answers are given as soon as this node's disk has
// the claim, until the queue keeps up again.
//
//	replicated ──breaker open, a claim waited Within, or too many wait──▶ degraded
//	    ▲                                                                    │
//	    └──the queue gets the newest claim within half of Within─────────────┘
//
// Safe for concurrent use.
type replication struct {
	opts   Replication
	most   int64 // claims that may wait at a time
	logger *slog.Logger

	held atomic.Int64
	last newest // claim

	mu  sync.Mutex
	why string        // it is degraded; "" where it is not
	cut chan struct{} // closed while it is degraded
}

func newReplication(opts Replication, most int, logger *slog.Logger) *replication {
	def(&opts.Within, time.Second)
	return &replication{opts: opts, most: int64(most), logger: logger, cut: make(chan struct{})}
}

// hold waits until the queue has the claim at a position, or is not to be waited
// for. The claim is accepted whatever happens here. A nil replication holds nothing.
func (r *replication) hold(ctx context.Context, claim fallbacklog.Position) {
	if r == nil {
		return
	}
	r.last.raise(claim)
	r.mu.Lock()
	cut := r.cut
	r.mu.Unlock()
	if r.opts.Feeder.Through() > claim {
		return
	}
	select {
	case <-cut:
		return
	default:
	}
	defer r.held.Add(-1)
	if r.held.Add(1) > r.most {
		r.degrade("more claims wait for the queue than this node bears")
		return
	}
	timer := time.NewTimer(r.opts.Within)
	defer timer.Stop()
	for {
		through, moved := r.opts.Feeder.through.look()
		if through > claim {
			return
		}
		select {
		case <-moved:
		case <-cut:
			return
		case <-timer.C:
			r.degrade("a claim waited " + r.opts.Within.String() + " for the queue")
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *replication) degrade(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why != "" {
		return
	}
	r.why = why
	close(r.cut)
	r.logger.Error("durability is degraded: claims are answered when this disk has them, before the queue does", "why", why)
}

func (r *replication) restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logger.Info("durability is replicated again: claims are answered when the queue has them too", "was", r.why)
	r.why, r.cut = "", make(chan struct{})
}

// degraded says why, "" where it is not.
func (r *replication) degraded() string {
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

// run looks at the breaker, and brings replication back, until ctx ends.
func (r *replication) run(ctx context.Context) {
	tick := time.NewTicker(breakerEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch {
		case r.opts.Broken != nil && r.opts.Broken():
			r.degrade("the queue's breaker is open")
		case r.degraded() != "" && r.keepsUp(ctx):
			r.restore()
		}
	}
}

// keepsUp reports whether the queue gets what is newest now in time. Half of the
// bound keeps a queue at its limit from going to and fro.
func (r *replication) keepsUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Within/2)
	defer cancel()
	last := fallbacklog.Position(r.last.at.Load())
	return last == 0 || r.opts.Feeder.Wait(ctx, last) == nil
}
