package queuetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/queue"
	"manna/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The suite must ask no more than the contract of an engine that is fed, knows
// nothing of the log, and hands orders out as often as they were put in.
func TestSuiteTakesAnEngineThatIsFed(t *testing.T) {
	b := &broker{topics: map[string]*topic{}}
	queuetest.Run(t, queuetest.Engine{Open: func(context.Context, queuetest.Node) (queue.Queue, error) {
		return &client{broker: b, lanes: map[string]*lane{}}, nil
	}})
}

// broker is a queue in memory that outlives its clients, as one elsewhere would.
type broker struct {
	mu     sync.Mutex
	topics map[string]*topic
}

type topic struct {
	fresh, due []*item
	changed    chan struct{} // closed and replaced
	turn       bool
}

type item struct {
	m     queue.Message
	first bool
	since time.Time // what its watermark says: the claim's time or the due time
	due   time.Time
}

func (b *broker) put(partner string, it *item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(partner)
	if it.first {
		t.fresh = append(t.fresh, it)
	} else {
		t.due = append(t.due, it)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (b *broker) topic(partner string) *topic {
	t := b.topics[partner]
	if t == nil {
		t = &topic{changed: make(chan struct{})}
		b.topics[partner] = t
	}
	return t
}

// take gives the next item, or when to come again.
func (b *broker) take(partner string) (it *item, wait time.Duration, changed chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(partner)
	wait = time.Hour
	best := -1
	for i, it := range t.due {
		if left := time.Until(it.due); left < wait {
			wait, best = left, i
		}
	}
	t.turn = !t.turn
	switch {
	case best >= 0 && wait <= 0 && (t.turn || len(t.fresh) == 0):
		it = t.due[best]
		t.due = append(t.due[:best:best], t.due[best+1:]...)
	case len(t.fresh) > 0:
		it, t.fresh = t.fresh[0], t.fresh[1:]
	}
	return it, wait, t.changed
}

type client struct {
	broker *broker
	mu     sync.Mutex
	lanes  map[string]*lane
	closed bool
}

func (c *client) Lane(_ context.Context, partner string) (queue.Lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, queue.ErrClosed
	}
	if c.lanes[partner] != nil {
		return nil, fmt.Errorf("lane %s is already open", partner)
	}
	l := &lane{client: c, partner: partner, held: map[*item]bool{}, ended: make(chan struct{})}
	c.lanes[partner] = l
	return l, nil
}

func (c *client) Send(_ context.Context, msgs ...*queue.Message) error {
	for _, m := range msgs {
		// The `reissued` record was written before; its time is not known here.
		c.broker.put(m.Order.Partner, &item{m: *m, since: m.Claim.ClaimedAt, due: time.Now()})
	}
	return nil
}

func (c *client) Feed(_ context.Context, msgs []*queue.Message) (confirmed func() error) {
	for _, m := range msgs {
		c.broker.put(m.Order.Partner, &item{m: *m, first: true, since: m.Claim.ClaimedAt})
	}
	return func() error { return nil }
}

func (c *client) Close(context.Context) error {
	c.mu.Lock()
	c.closed = true
	lanes := c.lanes
	c.lanes = map[string]*lane{}
	c.mu.Unlock()
	for _, l := range lanes {
		l.Close()
	}
	return nil
}

type lane struct {
	client  *client
	partner string
	ended   chan struct{}

	mu     sync.Mutex
	held   map[*item]bool
	closed bool
}

func (l *lane) Receive(ctx context.Context) (*queue.Message, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, queue.ErrClosed
		}
		it, wait, changed := l.client.broker.take(l.partner)
		if it != nil {
			l.held[it] = true
			l.mu.Unlock()
			m := it.m
			m.Handle = it
			return &m, nil
		}
		l.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-l.ended:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (l *lane) let(m *queue.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return queue.ErrClosed
	}
	it, _ := m.Handle.(*item)
	if !l.held[it] {
		return fmt.Errorf("order %v is not held", m.Order.ID)
	}
	delete(l.held, it)
	return nil
}

func (l *lane) Ack(_ context.Context, m *queue.Message) error { return l.let(m) }

func (l *lane) Defer(_ context.Context, m *queue.Message, due time.Time) error {
	if err := l.let(m); err != nil {
		return err
	}
	again := *m
	again.Handle = nil
	l.client.broker.put(l.partner, &item{m: again, since: due, due: due})
	return nil
}

func (l *lane) Status(context.Context) (queue.Status, error) {
	s := queue.Status{AsOf: time.Now().Truncate(time.Millisecond)}
	cover := func(it *item) {
		mark := &s.OldestDue
		if it.first {
			mark = &s.Oldest
		}
		if since := it.since.Truncate(time.Millisecond); mark.IsZero() || since.Before(*mark) {
			*mark = since
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.client.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(l.partner)
	for _, it := range t.fresh {
		cover(it)
	}
	for _, it := range t.due {
		cover(it)
	}
	for it := range l.held {
		cover(it)
	}
	s.Backlog, s.Deferred, s.Held = int64(len(t.fresh)), int64(len(t.due)), int64(len(l.held))
	s.OldestSeen = s.Oldest
	return s, nil
}

func (l *lane) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.ended)
	for it := range l.held {
		l.client.broker.put(l.partner, it)
	}
	l.client.mu.Lock()
	delete(l.client.lanes, l.partner)
	l.client.mu.Unlock()
	return nil
}
