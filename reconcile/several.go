package reconcile

import (
	"context"
	"fmt"
	"sync"

	"manna/gift"
)

// weighedAtOnce is how many claims are handed over at a time.
const weighedAtOnce = 1000

// several gathers claims that several nodes recorded, and hands them to who weighs their
// stock. It is safe for concurrent use.
type several struct {
	weigh func(ctx context.Context, claims []gift.ClaimID) error

	mu     sync.Mutex // guards claims
	claims []gift.ClaimID
}

func (s *several) add(ctx context.Context, claim gift.ClaimID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims = append(s.claims, claim)
	if len(s.claims) < weighedAtOnce {
		return nil
	}
	return s.flush(ctx)
}

// end hands over what is left.
func (s *several) end(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush(ctx)
}

// flush requires s.mu.
func (s *several) flush(ctx context.Context) error {
	if len(s.claims) == 0 {
		return nil
	}
	if err := s.weigh(ctx, s.claims); err != nil {
		return fmt.Errorf("claims that several nodes recorded: %w", err)
	}
	s.claims = s.claims[:0]
	return nil
}
