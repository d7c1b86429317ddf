package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// part is a group of goroutines that stop together.
type part struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan<- error
}

func newPart(ctx context.Context, failed chan<- error) *part {
	p := &part{failed: failed}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// start runs do until the part stops. An early end with an error ends the node.
func (p *part) start(name string, do func(context.Context) error) {
	p.running.Go(func() {
		err := do(p.ctx)
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// stop stops the part and waits for it until ctx ends; done is false where that came
// first.
func (p *part) stop(ctx context.Context) (done bool) {
	p.cancel()
	ended := make(chan struct{})
	go func() {
		p.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}
