package rocketmq

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"manna/queue"
)

// errNotHeld: the message is not held: it has been acknowledged or deferred, or
// another lane gave it.
var errNotHeld = errors.New("the message is not held")

const (
	// recommitAfter is when a place is written again although it has not moved: a
	// broker that was killed has forgotten the last seconds.
	recommitAfter = 10 * time.Second
	// leaveTimeout bounds what a lane that closes asks of its brokers.
	leaveTimeout = 3 * time.Second
)

// Lane is one partner's stream. Its methods are safe for concurrent use.
type Lane struct {
	queue     *Queue
	partner   string
	topics    topics
	logger    *slog.Logger
	cancel    context.CancelFunc
	work      sync.WaitGroup
	ready     chan struct{} // a token: there may be something to receive
	regrouped chan struct{} // a token: the group's members may have changed
	toShip    chan struct{} // a token: something is to be sent
	ended     chan struct{} // closed when the lane is

	mu       sync.Mutex
	closed   bool
	shards   [kinds][]shard // as the name server told last
	shardsAt time.Time
	streams  map[shard]*stream
	fresh    []*stream // those of them that have first deliveries
	due      dueHeap   // messages that have a due time, and have not been handed out
	dueNext  bool      // a due message goes before a fresh one
	ships    []*parcel
	held     int64
	last     queue.Status // as Status found it last
}

var _ queue.Lane = (*Lane)(nil)

func newLane(q *Queue, partner string, t topics) *Lane {
	return &Lane{
		queue: q, partner: partner, topics: t, logger: q.opts.Logger.With("lane", partner),
		ready: make(chan struct{}, 1), regrouped: make(chan struct{}, 1), toShip: make(chan struct{}, 1), ended: make(chan struct{}),
		streams: make(map[shard]*stream),
	}
}

// start has the lane join its group and read.
func (l *Lane) start(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.work.Go(func() { l.attend(ctx) })
	l.work.Go(func() { l.keep(ctx) })
	l.work.Go(func() { l.ship(ctx) })
}

// sort puts a message that was pulled where it belongs. It requires l.mu.
func (l *Lane) sort(p *parcel) {
	switch s := p.stream; {
	case p.why != nil:
		p.state = shipping
		l.toBeShipped(p)
	case s.kind == firsts && p.due == 0:
		s.buffer = append(s.buffer, p)
	case p.due != 0 && time.Until(time.Unix(0, p.due)) > tooEarly:
		p.state = shipping
		l.toBeShipped(p)
	default:
		heap.Push(&l.due, p)
	}
}

// Receive implements queue.Lane.
func (l *Lane) Receive(ctx context.Context) (*queue.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, wait, err := l.choose()
		if m != nil || err != nil {
			return m, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.ready:
		case <-timer.C:
		case <-l.ended:
		case <-ctx.Done():
			// Another receiver may be waiting for a later due time than this one was.
			l.signal()
		}
		timer.Stop()
	}
}

// longestWait bounds how late a step of the wall clock is noticed.
const longestWait = time.Minute

// choose hands out the next message, taking turns where there are fresh and due
// ones; or it says how long there will be none.
func (l *Lane) choose() (m *queue.Message, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, 0, queue.ErrClosed
	}
	for len(l.due) > 0 && l.due[0].stream.lost {
		heap.Pop(&l.due)
	}
	fresh, wait := l.eldest()
	if len(l.due) > 0 {
		wait = min(wait, time.Until(time.Unix(0, l.due[0].due)))
	}
	var p *parcel
	switch {
	case wait <= 0 && (l.dueNext || fresh == nil):
		p = heap.Pop(&l.due).(*parcel)
		l.dueNext = false
	case fresh != nil:
		p = fresh.buffer[0]
		fresh.buffer[0] = nil
		if fresh.buffer = fresh.buffer[1:]; len(fresh.buffer) == 0 {
			fresh.buffer, fresh.dryAt = nil, time.Now()
		}
		l.dueNext = true
	default:
		return nil, wait, nil
	}
	if p.state == waiting {
		p.stream.took()
	}
	p.state = held
	l.held++
	p.stream.held++
	m = p.msg
	p.msg = nil
	m.Handle = p
	// One token wakes one receiver, and that one wakes the next, if only to have
	// it wait for the due time that this one was waiting for.
	l.signal()
	return m, 0, nil
}

// eldest finds the stream whose next first delivery is the oldest, or says how
// long to wait for one that may have older ones. It requires l.mu.
func (l *Lane) eldest() (eldest *stream, wait time.Duration) {
	wait = longestWait
	for _, s := range l.fresh {
		switch {
		case len(s.buffer) > 0:
			if eldest == nil || s.buffer[0].msg.Claim.ClaimedAt.Before(eldest.buffer[0].msg.Claim.ClaimedAt) {
				eldest = s
			}
		case s.more:
			if left := dryFor - time.Since(s.dryAt); left > 0 {
				wait = min(wait, left)
			}
		}
	}
	if wait < longestWait {
		return nil, wait
	}
	return eldest, wait
}

func (l *Lane) signal() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// take finds what belongs to a message that is held, and takes it from its
// holder. It requires l.mu.
func (l *Lane) take(m *queue.Message) (*parcel, error) {
	if l.closed {
		return nil, queue.ErrClosed
	}
	p, ok := m.Handle.(*parcel)
	if !ok || p.stream.lane != l || p.state != held {
		return nil, fmt.Errorf("lane %s: order %v: %w", l.partner, m.Order.ID, errNotHeld)
	}
	l.held--
	p.stream.held--
	return p, nil
}

// Ack implements queue.Lane. The broker hears of it within CommitEvery.
func (l *Lane) Ack(_ context.Context, m *queue.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.take(m)
	if err == nil {
		p.release()
	}
	return err
}

// keep writes the lane's places down every CommitEvery, until ctx ends.
func (l *Lane) keep(ctx context.Context) {
	trouble := newTrouble(l.logger, "cannot write the lane's places; what is let go is received again after a crash")
	tick := time.NewTicker(l.queue.opts.CommitEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := l.write(ctx, l.all()); err == nil {
			trouble.over()
		} else if !trouble.pause(ctx, err) {
			return
		}
	}
}

func (l *Lane) all() []*stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*stream, 0, len(l.streams))
	for _, s := range l.streams {
		all = append(all, s)
	}
	return all
}

// write commits the places that have moved, or were written long ago.
//
// Commit point: what lies before a place is never received again. It was let go,
// so its outcome is in the log, or its successor in a topic.
func (l *Lane) write(ctx context.Context, streams []*stream) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var failed error
	for _, s := range streams {
		l.mu.Lock()
		at, epoch := s.window.base, s.epoch
		wanted := s.begun && (at != s.committed || time.Since(s.wroteAt) > recommitAfter)
		l.mu.Unlock()
		if !wanted {
			continue
		}
		if err := l.queue.cluster.commit(ctx, l.topics.group, s.shard, at); err != nil {
			s.gone(err)
			failed = errors.Join(failed, err)
			continue
		}
		l.mu.Lock()
		if epoch == s.epoch {
			s.committed, s.wroteAt = at, time.Now()
		}
		l.mu.Unlock()
	}
	return failed
}

// Close implements queue.Lane.
func (l *Lane) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.ended)
	l.mu.Unlock()
	// The name stays taken until the places are written, so that the lane is not
	// opened again from older ones.
	defer l.queue.remove(l)
	l.cancel()
	l.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	streams := l.all()
	err := l.write(ctx, streams)
	l.leave(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range streams {
		l.drop(s)
	}
	l.due, l.ships, l.held = nil, nil, 0
	if err != nil {
		return fmt.Errorf("lane %s: places: %w", l.partner, err)
	}
	return nil
}
