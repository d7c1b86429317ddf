package consumer

import (
	"context"
	"sync"
)

// slots bounds the calls under way. One goroutine acquires, any may release.
type slots struct {
	mu    sync.Mutex
	limit int
	used  int
	freed chan struct{} // there may be room
}

func newSlots(limit int) *slots { return &slots{limit: limit, freed: make(chan struct{}, 1)} }

// acquire waits for a slot.
func (s *slots) acquire(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.used < s.limit {
			s.used++
			s.mu.Unlock()
			return ctx.Err()
		}
		s.mu.Unlock()
		select {
		case <-s.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *slots) release() {
	s.mu.Lock()
	s.used--
	s.mu.Unlock()
	s.signal()
}

// resize changes the limit; calls under way beyond a smaller one end by
// themselves.
func (s *slots) resize(limit int) {
	s.mu.Lock()
	s.limit = limit
	s.mu.Unlock()
	s.signal()
}

func (s *slots) signal() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}
