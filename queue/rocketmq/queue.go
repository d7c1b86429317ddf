package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"manna/gift"
	"manna/queue"
)

const (
	// openTimeout bounds what Open and Lane ask of the servers.
	openTimeout = 10 * time.Second
)

// Queue is the engine on RocketMQ. Its methods are safe for concurrent use.
//
// Locks are taken in the order Queue.mu, Lane.mu.
type Queue struct {
	opts     Options
	instance string // of this process and Queue, among a group's members
	wire     *wire
	cluster  *cluster
	topics   *provision
	sender   *sender
	marks    *marks
	metrics  *metrics
	work     sync.WaitGroup // Feeds and Sends under way
	feeding  chan struct{}  // has one for each request of a Feed that is under way
	batches  sync.Pool      // of *batch

	mu     sync.Mutex
	lanes  map[string]*Lane
	groups map[string]*Lane // the same, by their groups
	closed bool
}

var (
	_ queue.Queue    = (*Queue)(nil)
	_ queue.Feedable = (*Queue)(nil)
)

// Open makes ready to use the brokers. It refuses what waiting does not put right:
// an address at which something else answers, a cluster to be chosen, a broker
// without its timer, a topic with too few queues. Where servers are away it says so
// in the log and gives a queue that works once they are there, because nodes need
// no order of start; Check tells the two apart before.
func Open(ctx context.Context, opts Options) (*Queue, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	clientLogger.Store(opts.Logger)
	takeClient()
	q := &Queue{
		opts: opts, instance: fmt.Sprintf("%s@%d-%08x", opts.Node, os.Getpid(), rand.Uint32()),
		feeding: make(chan struct{}, opts.Senders), lanes: make(map[string]*Lane), groups: make(map[string]*Lane),
	}
	q.wire = newWire(q.heard)
	q.cluster = &cluster{wire: q.wire, nameServers: opts.NameServers, name: opts.Cluster}
	q.topics = newProvision(q.cluster, opts.Logger)
	if err := q.connect(ctx); err != nil {
		q.wire.close()
		return nil, fmt.Errorf("queue rocketmq: %w", err)
	}
	q.metrics = newMetrics(q)
	var err error
	if q.sender, err = newSender(&q.opts, q.cluster, q.instance); err == nil {
		if err = opts.Metrics.Register(q.metrics); err != nil {
			err = errors.Join(err, q.sender.close())
		}
	}
	if err != nil {
		q.wire.close()
		return nil, fmt.Errorf("queue rocketmq: %w", err)
	}
	q.marks.sender = q.sender
	return q, nil
}

// connect sees that everything answers that will be needed, or is only away.
func (q *Queue) connect(ctx context.Context) error {
	topic := marksOf(q.opts.Group)
	q.marks = &marks{cluster: q.cluster, topics: q.topics, topic: topic, group: topic, logger: q.opts.Logger}
	one, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	_, err := q.cluster.ready(one)
	if err == nil {
		err = q.topics.provide(one, 1, topic)
	}
	return q.unlessAway(ctx, err)
}

// unlessAway has what is away be told and waited for.
func (q *Queue) unlessAway(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, errNotRemoting) || !errors.Is(err, ErrAway) {
		return err
	}
	q.opts.Logger.Warn("RocketMQ is away; the queue works once it is back", "name_servers", q.opts.NameServers, "err", err)
	return nil
}

// heard takes in what brokers say unasked: a group has other members now.
func (q *Queue) heard(f frame) {
	if f.Code != reqMembersChanged {
		return
	}
	q.mu.Lock()
	l := q.groups[f.Fields["consumerGroup"]]
	q.mu.Unlock()
	if l != nil {
		l.regroup()
	}
}

// provide sees to it that a partner's topics are there.
func (q *Queue) provide(ctx context.Context, t topics) error {
	return q.topics.provide(ctx, q.opts.Queues, t.of[:]...)
}

// missed takes in an error of whoever used a partner's topics. It reports whether that
// says that one of them is gone, and has them made anew before they are used again.
func (q *Queue) missed(t topics, err error) (gone bool) {
	if gone = q.topics.missed(t.of[0], err); gone {
		// A mark that was stored a moment ago may be gone with it.
		q.marks.renew()
	}
	return gone
}

// Lane implements queue.Queue. Where servers are away the lane is opened and joins
// its group once they are there.
func (q *Queue) Lane(ctx context.Context, partner string) (queue.Lane, error) {
	if err := gift.CheckName(partner); err != nil {
		return nil, fmt.Errorf("lane: %w", err)
	}
	t, err := topicsOf(q.opts.Group, partner)
	if err != nil {
		return nil, err
	}
	l := newLane(q, partner, t)
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return nil, queue.ErrClosed
	case q.lanes[partner] != nil:
		q.mu.Unlock()
		return nil, fmt.Errorf("lane %s is already open", partner)
	}
	q.lanes[partner], q.groups[t.group] = l, l
	q.mu.Unlock()
	if err := q.unlessAway(ctx, l.check(ctx)); err != nil {
		q.remove(l)
		return nil, fmt.Errorf("lane %s: %w", partner, err)
	}
	l.start(ctx)
	return l, nil
}

// check sees that the lane's topics are there and that its group may read them.
func (l *Lane) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := l.queue.provide(ctx, l.topics); err != nil {
		return err
	}
	all, err := l.allShards(ctx)
	if err != nil {
		return err
	}
	asked := make(map[string]bool)
	for _, s := range all[firsts] {
		if !asked[s.addr] {
			asked[s.addr] = true
			if _, err := l.queue.cluster.pull(ctx, l.topics.group, s, 0, 1, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *Queue) remove(l *Lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.lanes, l.partner)
	delete(q.groups, l.topics.group)
}

// open lists the lanes.
func (q *Queue) open() []*Lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	lanes := make([]*Lane, 0, len(q.lanes))
	for _, l := range q.lanes {
		lanes = append(lanes, l)
	}
	return lanes
}

// enter notes a Feed or a Send that begins; whoever calls it calls q.work.Done.
func (q *Queue) enter() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return queue.ErrClosed
	}
	q.work.Add(1)
	return nil
}

// Close implements queue.Queue. It waits for what is being fed or sent, which
// the contexts of those calls can cut short. A few of the client's goroutines
// outlive it for up to ten seconds.
func (q *Queue) Close(context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	q.mu.Unlock()
	var closing sync.WaitGroup
	lanes := q.open()
	failed := make([]error, len(lanes))
	for i, l := range lanes {
		closing.Go(func() { failed[i] = l.Close() })
	}
	closing.Wait()
	q.work.Wait()
	q.opts.Metrics.Unregister(q.metrics)
	failed = append(failed, q.sender.close())
	q.wire.close()
	return errors.Join(failed...)
}
