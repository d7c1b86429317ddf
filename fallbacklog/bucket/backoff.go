package bucket

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives the pauses between attempts: each about twice as long as the one
// before, less up to a quarter by chance, so that those who failed together do not
// come back together. It is used by one goroutine.
type Backoff struct {
	First, Most time.Duration
	next        time.Duration
}

// Next is the next pause.
func (b *Backoff) Next() time.Duration {
	b.next = min(max(2*b.next, b.First), b.Most)
	return b.next - rand.N(b.next/4+1)
}

// Reset begins anew after a success.
func (b *Backoff) Reset() { b.next = 0 }

// Pause waits for the next pause to pass, or for ctx to end.
func (b *Backoff) Pause(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
