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
	"manna/internal/notice"
	"manna/queue"
)

// Options configure a consumer. Log, Queue and Partners are required.
type Options struct {
	Log      *fallbacklog.Log
	Queue    queue.Queue
	Partners []*Partner
	// Quota shares the partners' rates with other nodes. Nil: this process has them
	// for itself.
	Quota *Quota
	// Cluster is what the consumers of several processes share. Nil: this is the only
	// one.
	Cluster *Cluster
	// Returned is told of each `returned` record that a lane has written, because
	// every order of a claim was refused. May be nil.
	Returned func(*fallbacklog.Stock)
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
	Now      func() time.Time // default time.Now
}

// Consumer owns the lanes of one process.
type Consumer struct {
	opts    Options
	metrics *metrics
	opened  chan struct{}  // closed when Run has opened the lanes
	started time.Time      // what an earlier process began, it began before
	claims  [64]sync.Mutex // stripes: what is decided about a claim as a whole

	reloading sync.Mutex      // held while lanes are opened and ended
	run       context.Context // set while Run runs; guarded by reloading
	done      sync.WaitGroup

	shared trouble // with what the cluster's consumers share

	mu    sync.Mutex // guards the next fields
	lanes map[string]*lane
	under map[gift.OrderID]struct{} // orders under way; used only in a cluster
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
	return &Consumer{opts: opts, metrics: m, shared: trouble{told: notice.NewChanging(opts.Logger)}, opened: make(chan struct{}), started: opts.Now().UTC(), lanes: make(map[string]*lane), under: make(map[gift.OrderID]struct{})}, nil
}

// Run opens a lane for each partner and works until ctx ends. It returns when the
// calls under way have ended and their outcomes are written: that takes at most
// the longest of the partners' timeouts, unless the disk is full. A consumer runs
// once.
func (c *Consumer) Run(ctx context.Context) error {
	err := c.begin(ctx)
	if err == nil {
		if c.opts.Cluster != nil {
			c.done.Go(func() { c.refund(ctx) })
		}
		close(c.opened)
		<-ctx.Done()
	}
	c.reloading.Lock()
	defer c.reloading.Unlock()
	c.run = nil
	for _, l := range c.list() {
		l.stop()
	}
	c.done.Wait()
	return err
}

func (c *Consumer) begin(ctx context.Context) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	c.run = ctx
	return c.fit(c.opts.Partners, func() error { return nil })
}

// Opened is closed when Run has opened every lane.
func (c *Consumer) Opened() <-chan struct{} { return c.opened }

// Reload makes the lanes fit other partners: it opens lanes, changes what changed
// in those that go on, and ends those whose partner is gone. After an error nothing
// has changed. A call under way ends with the partner that it began with; a partner
// that comes back is served when its calls from before have ended. It is harmless
// before Run.
func (c *Consumer) Reload(partners []*Partner) error {
	return c.ReloadWith(partners, func() error { return nil })
}

// ReloadWith is Reload for who has more to change: adopt is called when nothing of
// the lanes can fail any more and nothing of them has changed. Its error is
// ReloadWith's.
func (c *Consumer) ReloadWith(partners []*Partner, adopt func() error) error {
	for _, p := range partners {
		if err := p.validate(); err != nil {
			return err
		}
	}
	c.reloading.Lock()
	defer c.reloading.Unlock()
	if c.run == nil {
		err := adopt()
		if err == nil {
			c.opts.Partners = partners
		}
		return err
	}
	return c.fit(partners, adopt)
}

// fit opens, changes and ends lanes, or does nothing of that. It requires
// c.reloading; c.mu is not held while a lane is opened, which may read the log for a
// while.
func (c *Consumer) fit(partners []*Partner, adopt func() error) error {
	opened, err := c.openLanes(partners)
	if err == nil {
		err = adopt()
	}
	if err != nil {
		for _, source := range opened {
			err = errors.Join(err, source.Close())
		}
		return err
	}
	c.opts.Partners = partners
	keep := make(map[string]bool)
	for _, p := range partners {
		keep[p.Name] = true
		source := opened[p.Name]
		if source == nil {
			c.lane(p.Name).reload(p)
			continue
		}
		ctx, cancel := context.WithCancel(c.run)
		l := newLane(c, p, source, cancel)
		c.mu.Lock()
		c.lanes[p.Name] = l
		c.mu.Unlock()
		c.done.Go(func() { l.run(ctx) })
	}
	for _, l := range c.list() {
		if !keep[l.name] && !l.ending.Load() {
			c.opts.Logger.Info("lane ends: its partner is no longer configured", "partner", l.name)
			l.stop()
		}
	}
	return nil
}

// openLanes opens the queue's lanes of the partners that are not served. It gives
// those that it has opened also where another refuses.
func (c *Consumer) openLanes(partners []*Partner) (map[string]queue.Lane, error) {
	opened := make(map[string]queue.Lane)
	for _, p := range partners {
		old := c.lane(p.Name)
		if old != nil && !old.ending.Load() {
			continue
		}
		if old != nil {
			select {
			case <-old.ended:
			case <-c.run.Done():
				return opened, c.run.Err()
			}
		}
		source, err := c.opts.Queue.Lane(c.run, p.Name)
		if err != nil {
			return opened, fmt.Errorf("lane %s: %w", p.Name, err)
		}
		opened[p.Name] = source
	}
	return opened, nil
}

// enter takes an order up, unless another copy of it is under way in this process:
// the queue of a cluster may deliver one twice.
func (c *Consumer) enter(id gift.OrderID) bool {
	if c.opts.Cluster == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, busy := c.under[id]; busy {
		return false
	}
	c.under[id] = struct{}{}
	return true
}

func (c *Consumer) leave(id gift.OrderID) {
	if c.opts.Cluster == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, id)
}

func (c *Consumer) lane(name string) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes[name]
}

// list gives the lanes by name, those included that are ending.
func (c *Consumer) list() []*lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	lanes := make([]*lane, 0, len(c.lanes))
	for _, l := range c.lanes {
		lanes = append(lanes, l)
	}
	sort.Slice(lanes, func(i, j int) bool { return lanes[i].name < lanes[j].name })
	return lanes
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
	Quota    *QuotaStatus     `json:"quota,omitempty"`   // nil: the rate is not shared
	Problem  string           `json:"problem,omitempty"` // why the queue's status is missing
	Waits    string           `json:"waits,omitempty"`   // why orders of it wait for the ledger; "" where none does
}

// Lanes tells how all lanes stand, by name.
func (c *Consumer) Lanes(ctx context.Context) []LaneStatus {
	var all []LaneStatus
	for _, l := range c.list() {
		if !l.ending.Load() {
			all = append(all, l.status(ctx))
		}
	}
	return all
}

// Waiting tells why orders wait for the ledger, of each lane that has such, by partner. It
// asks nobody.
func (c *Consumer) Waiting() map[string]string {
	waiting := make(map[string]string)
	for _, l := range c.list() {
		if why := l.stall.why(); why != "" && !l.ending.Load() {
			waiting[l.name] = why
		}
	}
	return waiting
}

// Sources are the queues of the lanes, by partner: what the reconciler asks for
// watermarks.
func (c *Consumer) Sources() map[string]queue.Lane {
	sources := make(map[string]queue.Lane)
	for _, l := range c.list() {
		if !l.ending.Load() {
			sources[l.name] = l.source
		}
	}
	return sources
}
