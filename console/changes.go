package console

import (
	"context"
	"sync"
	"time"

	"manna/gift"
)

// changesWithin is how long changes under way have to end by themselves.
const changesWithin = time.Second

// changes are the requests under way that change something. Its methods are safe for
// concurrent use.
type changes struct {
	under sync.WaitGroup
	cut   context.Context // ends those under way
	end   context.CancelFunc

	mu    sync.Mutex // guards ended, and Add of under
	ended bool       // none begins any more
}

func newChanges() *changes {
	c := &changes{}
	c.cut, c.end = context.WithCancel(context.Background())
	return c
}

// do makes a change, unless none is to begin any more: gift.Unavailable. The context that
// change is given may end before ctx.
func (c *changes) do(ctx context.Context, change func(context.Context) error) error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return &gift.Error{Code: gift.Unavailable, Detail: "this node is stopping and changes nothing any more: ask another, or this one once it is back", RetryAfter: comeAgain}
	}
	c.under.Add(1)
	c.mu.Unlock()
	defer c.under.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.cut, cancel)()
	return change(ctx)
}

// EndChanges refuses every request that changes something from now on, and waits for
// those under way, which are cut off after a second: what they write is in the log when
// it returns. It waits no longer than ctx. Reads and probes are answered as before.
func (c *Console) EndChanges(ctx context.Context) { c.changes.stop(ctx) }

func (c *changes) stop(ctx context.Context) {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	over := make(chan struct{})
	go func() {
		c.under.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	case <-time.After(changesWithin):
	}
	c.end()
	select {
	case <-over:
	case <-ctx.Done(): // nothing is appended any more by who has not begun to
	}
}
