package consumer

import (
	"log/slog"
	"sync"
)

// trouble remembers whether something that a lane needs can be had, so that it is
// told when that changes and not with every order.
type trouble struct {
	mu  sync.Mutex
	err error
}

// to notes how the last try went.
func (t *trouble) to(logger *slog.Logger, err error) {
	t.mu.Lock()
	before := t.err
	t.err = err
	t.mu.Unlock()
	switch {
	case err != nil && before == nil:
		logger.Error("what the cluster's consumers share is not to be had; orders of partners that cannot dedupe wait, and of claims that may have several gifts", "err", err)
	case err == nil && before != nil:
		logger.Info("what the cluster's consumers share is back", "was", before)
	}
}
