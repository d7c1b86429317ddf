package producer

import (
	"slices"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/queue"
)

// load is what is handed over at once. A feeder that is behind would make garbage of
// many a second, so they are used again.
type load struct {
	room      []queue.Message
	msgs      []*queue.Message     // of room; settle's once they have been handed over
	oldest    time.Time            // of its claims
	end       fallbacklog.Position // before which there is nothing else
	confirmed func() error         // of the queue, once it has been handed over
}

// underWay are the times of the oldest claims of the batches that are on their way, the
// first handed over first. Safe for concurrent use.
type underWay struct {
	mu     sync.Mutex
	oldest []time.Time
}

func (u *underWay) enter(oldest time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.oldest = append(u.oldest, oldest)
}

func (u *underWay) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.oldest = nil
}

func (u *underWay) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.oldest = slices.Delete(u.oldest, 0, 1)
}

func (u *underWay) first() (oldest time.Time, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.oldest) == 0 {
		return oldest, false
	}
	return u.oldest[0], true
}
