package reconcile

import (
	"context"
	"slices"
	"sync"
	"time"

	"manna/fallbacklog"
)

const (
	// sampleEvery is how often the lanes are asked where there are other nodes. It
	// adds to how much later than their logs' arrival an order is found missing.
	sampleEvery = 15 * time.Second
	// keptSamples bounds the memory of what they said: two hours of it.
	keptSamples = 480
)

// sample is what the lanes said at one time.
type sample struct {
	mark fallbacklog.Position // the end of this node's log, right before
	// began and ended are by this node's clock.
	began, ended time.Time
	lanes        map[string]watermarks
}

// look asks all lanes.
func (r *Reconciler) look(ctx context.Context) *sample {
	// The log's end comes first: what is written from there on the lanes need not
	// know of.
	s := &sample{mark: r.opts.Log.End(), began: r.opts.Now().UTC()}
	s.lanes = readWatermarks(ctx, r.opts.Lanes(), r.opts.Slack)
	s.ended = r.opts.Now().UTC()
	if r.opts.Others != nil && ctx.Err() == nil {
		r.samples.add(s)
	}
	return s
}

// watch looks at the lanes again and again, until ctx ends.
func (r *Reconciler) watch(ctx context.Context) {
	again := time.NewTicker(sampleEvery)
	defer again.Stop()
	for {
		r.look(ctx)
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// samples are those of the last two hours, the oldest first. Safe for concurrent
// use.
type samples struct {
	mu   sync.Mutex
	list []*sample
}

func (h *samples) add(s *sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) == keptSamples {
		h.list = slices.Delete(h.list, 0, 1)
	}
	h.list = append(h.list, s)
}

// newest is the newest sample that ended by the time given: where there is one,
// of those in which each of the lanes had an answer. Nil: there is none.
func (h *samples) newest(by time.Time, lanes map[string]watermarks) (found *sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range slices.Backward(h.list) {
		if s.ended.After(by) {
			continue
		}
		if s.answered(lanes) {
			return s
		}
		if found == nil {
			found = s
		}
	}
	return found
}

// first is when the oldest sample began; where there is none, when now did.
func (h *samples) first(now *sample) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) == 0 {
		return now.began
	}
	return h.list[0].began
}

// answered reports whether each of the lanes did.
func (s *sample) answered(lanes map[string]watermarks) bool {
	for partner := range lanes {
		if w := s.lanes[partner]; !w.served || w.err != nil {
			return false
		}
	}
	return true
}
