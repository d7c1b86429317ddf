package node

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// lookEvery is the pause between two looks at what may hang; askEvery is that where
	// a look is a dozen questions to servers that all nodes ask.
	lookEvery = 500 * time.Millisecond
	askEvery  = 5 * time.Second
	// answersWithin is how long a look may take before that is said.
	answersWithin = 2 * time.Second
)

// watched is what is wrong with something that may hang, as it was seen last: whoever
// asks a node how it is does not wait for servers. Safe for concurrent use.
type watched struct {
	name  string
	every time.Duration
	look  func(context.Context) []string

	mu    sync.Mutex
	said  []string
	began time.Time // of the look under way; zero where there is none
}

func newWatched(name string, every time.Duration, look func(context.Context) []string) *watched {
	return &watched{name: name, every: every, look: look, said: []string{name + ": not open yet"}}
}

// run looks again and again until ctx ends.
func (w *watched) run(ctx context.Context) error {
	for {
		w.mu.Lock()
		w.began = time.Now()
		w.mu.Unlock()
		said := w.look(ctx)
		w.mu.Lock()
		w.said, w.began = said, time.Time{}
		w.mu.Unlock()
		select {
		case <-time.After(w.every):
		case <-ctx.Done():
			return nil
		}
	}
}

// now is what was seen last. Nothing is wrong with what is not there, a nil watched.
func (w *watched) now() (said []string) {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if silent := time.Since(w.began); !w.began.IsZero() && silent > answersWithin {
		said = append(said, fmt.Sprintf("%s: it has not answered for %s", w.name, silent.Round(time.Second)))
	}
	return append(said, w.said...)
}
