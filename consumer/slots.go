package consumer

import (
	"context"
	"sync"
)

// slots bounds how much is under way: calls, or marks. Its methods are safe for
// concurrent use.
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
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		got := s.used < s.limit
		if got {
			s.used++
		}
		more := s.used < s.limit
		s.mu.Unlock()
		if more {
			s.signal() // to the next who waits
		}
		if got {
			return nil
		}
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

// resize changes the limit; what is under way beyond a smaller one ends by itself.
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
