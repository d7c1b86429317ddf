package producer

import (
	"context"
	"sync"
	"sync/atomic"

	"manna/fallbacklog"
)

// passed is a position of the log that only moves on, and that thousands may wait
// for: each move wakes them with one broadcast. Safe for concurrent use.
type passed struct {
	at atomic.Uint64

	mu    sync.Mutex
	moved chan struct{} // closed at the next move; nil where nobody waits
}

func (p *passed) Load() uint64 { return p.at.Load() }

func (p *passed) Store(at uint64) {
	p.at.Store(at)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// look gives the position, and what is closed when it moves from there.
func (p *passed) look() (at fallbacklog.Position, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return fallbacklog.Position(p.at.Load()), p.moved
}

// Wait returns once the queue has the claim at a position of the log, and ctx's
// error where that ends first.
func (f *Feeder) Wait(ctx context.Context, claim fallbacklog.Position) error {
	for {
		through, moved := f.through.look()
		if through > claim {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
