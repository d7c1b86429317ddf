package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/internal/config"
)

// ageEvery is how often the oldest waiting order of each lane is looked at.
const ageEvery = 15 * time.Second

// ages watches how long orders wait, also in a lane that is held or stopped and
// so says nothing by itself.
type ages struct {
	oldest *prometheus.GaugeVec
	broken *prometheus.GaugeVec
	told   map[string]bool // lanes whose broken promise has been told
}

func newAges(r prometheus.Registerer) (*ages, error) {
	a := &ages{
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "manna_lane_oldest_seconds", Help: "Time since the claim of the oldest order that waits for its first delivery."}, []string{"lane"}),
		broken: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "manna_lane_promise_passed", Help: "1 while an order waits in the lane for longer than the shortest promise of the campaigns it serves."}, []string{"lane"}),
		told:   make(map[string]bool),
	}
	if err := r.Register(a.oldest); err != nil {
		return nil, err
	}
	return a, r.Register(a.broken)
}

// watchAges looks until ctx ends.
func (n *Node) watchAges(ctx context.Context, a *ages) error {
	tick := time.NewTicker(ageEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.mu.Lock()
			promises := shortestPromises(n.config)
			n.mu.Unlock()
			n.lookAtAges(ctx, a, promises)
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) lookAtAges(ctx context.Context, a *ages, promises map[string]time.Duration) {
	for _, l := range n.consumer.Lanes(ctx) {
		age := time.Duration(0)
		if !l.Queue.OldestSeen.IsZero() {
			age = time.Since(l.Queue.OldestSeen)
		}
		a.oldest.WithLabelValues(l.Partner).Set(age.Seconds())
		promise, known := promises[l.Partner]
		passed := known && age > promise
		if passed && !a.told[l.Partner] {
			n.logger.Error("an order waits longer than its campaign promised", "partner", l.Partner, "oldest", l.Queue.OldestSeen, "promise", promise, "backlog", l.Queue.Backlog, "breaker", l.Breaker.State)
		}
		a.told[l.Partner] = passed
		value := 0.0
		if passed {
			value = 1
		}
		a.broken.WithLabelValues(l.Partner).Set(value)
	}
}

// shortestPromises gives, for each partner, the shortest promise of the campaigns
// that it delivers for.
func shortestPromises(c *config.Config) map[string]time.Duration {
	shortest := make(map[string]time.Duration)
	for _, k := range c.Campaigns {
		for _, g := range k.Gifts {
			for _, item := range g.Items {
				if p, ok := shortest[item.Partner]; !ok || k.Promise < p {
					shortest[item.Partner] = k.Promise
				}
			}
		}
	}
	return shortest
}
