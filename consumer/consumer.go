package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// Options configure a consumer. Log, Queue and Partners are required.
type Options struct {
	Log      *fallbacklog.Log
	Queue    queue.Queue
	Partners []*Partner
	// AllRefused is called, once or more, when every order of a claim has been
	// refused: its stock may be given back. May be nil.
	AllRefused func(ctx context.Context, claim *gift.Claim) error
	Logger     *slog.Logger
	Metrics    prometheus.Registerer
	Now        func() time.Time // default time.Now
}

// Consumer owns the lanes of one process.
type Consumer struct {
	opts    Options
	metrics *metrics
	opened  chan struct{} // closed when Run has opened the lanes

	mu    sync.Mutex
	lanes map[string]*lane
	run   context.Context // set while Run runs
	done  sync.WaitGroup
}

// New checks the options. No lane is opened before Run.
func New(opts Options) (*Consumer, error) {
	if opts.Log == nil || opts.Queue == nil {
		return nil, errors.New("a consumer needs a log and a queue")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	m, err := newMetrics(opts.Metrics)
	if err != nil {
		return nil, err
	}
	for _, p := range opts.Partners {
		if err := p.validate(); err != nil {
			return nil, err
		}
	}
	return &Consumer{opts: opts, metrics: m, opened: make(chan struct{}), lanes: make(map[string]*lane)}, nil
}

// Run opens a lane for each partner and works until ctx ends. It returns when the
// calls under way have ended and their outcomes are written: that takes at most
// the longest of the partners' timeouts, unless the disk is full. A consumer runs
// once.
func (c *Consumer) Run(ctx context.Context) error {
	c.mu.Lock()
	c.run = ctx
	partners := c.opts.Partners
	c.mu.Unlock()
	err := c.Reload(partners)
	if err == nil {
		close(c.opened)
		<-ctx.Done()
	}
	c.mu.Lock()
	c.run = nil
	for name, l := range c.lanes {
		l.stop()
		delete(c.lanes, name)
	}
	c.mu.Unlock()
	c.done.Wait()
	return err
}

// Opened is closed when Run has opened every lane.
func (c *Consumer) Opened() <-chan struct{} { return c.opened }

// Reload makes the lanes fit other partners: it opens lanes, changes what changed
// in those that go on, and ends those whose partner is gone. A call under way
// ends with the partner that it began with. It is harmless before Run.
func (c *Consumer) Reload(partners []*Partner) error {
	for _, p := range partners {
		if err := p.validate(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Partners = partners
	if c.run == nil {
		return nil
	}
	keep := make(map[string]bool)
	for _, p := range partners {
		keep[p.Name] = true
		if l := c.lanes[p.Name]; l != nil {
			l.reload(p)
			continue
		}
		source, err := c.opts.Queue.Lane(c.run, p.Name)
		if err != nil {
			return fmt.Errorf("lane %s: %w", p.Name, err)
		}
		ctx, cancel := context.WithCancel(c.run)
		l := newLane(c, p, source, cancel)
		c.lanes[p.Name] = l
		c.done.Go(func() { l.run(ctx) })
	}
	for name, l := range c.lanes {
		if !keep[name] {
			c.opts.Logger.Info("lane ends: its partner is no longer configured", "partner", name)
			l.stop()
			delete(c.lanes, name)
		}
	}
	return nil
}

// LaneStatus is what an operator sees of a lane.
type LaneStatus struct {
	Partner  string           `json:"partner"`
	Rate     gift.Rate        `json:"rate"` // calls a second
	Queue    queue.Status     `json:"queue"`
	InFlight int              `json:"in_flight"`
	Breaker  breaker.Snapshot `json:"breaker"`
	Calls    uint64           `json:"calls"` // started since this process began
	Outcomes Counts           `json:"outcomes"`
	Problem  string           `json:"problem,omitempty"` // why the queue's status is missing
}

// Lanes tells how all lanes stand, by name.
func (c *Consumer) Lanes(ctx context.Context) []LaneStatus {
	c.mu.Lock()
	lanes := make([]*lane, 0, len(c.lanes))
	for _, l := range c.lanes {
		lanes = append(lanes, l)
	}
	c.mu.Unlock()
	sort.Slice(lanes, func(i, j int) bool { return lanes[i].name < lanes[j].name })
	all := make([]LaneStatus, len(lanes))
	for i, l := range lanes {
		all[i] = l.status(ctx)
	}
	return all
}

// Sources are the queues of the lanes, by partner: what the reconciler asks for
// watermarks.
func (c *Consumer) Sources() map[string]queue.Lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	sources := make(map[string]queue.Lane, len(c.lanes))
	for name, l := range c.lanes {
		sources[name] = l.source
	}
	return sources
}
