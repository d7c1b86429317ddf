package consumer_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"manna/gift"
	"manna/queue"
)

// broker is a queue in memory that many share. What a process held when it died
// comes again, and so does whatever a test wants to come twice.
type broker struct {
	mu      sync.Mutex // guards the next fields
	items   []*item
	changed chan struct{} // closed and replaced with every change
	serves  string        // the one node that gets messages; "": all do
	later   int           // how often a message was deferred
}

// only has one node get all messages from now on.
func (b *broker) only(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serves = node
}

type item struct {
	message queue.Message
	due     time.Time
	holder  *member // nil: it waits
}

func (b *broker) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// put sends a claim's orders.
func (b *broker) put(c *gift.Claim) {
	b.mu.Lock()
	for _, o := range c.Orders {
		b.items = append(b.items, &item{message: queue.Message{Claim: c, Order: o}})
	}
	b.mu.Unlock()
	b.wake()
}

// lose gives back what a process held.
func (b *broker) lose(m *member) {
	b.mu.Lock()
	for _, i := range b.items {
		if i.holder == m {
			i.holder = nil
		}
	}
	b.mu.Unlock()
	b.wake()
}

func (b *broker) deferrals() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.later
}

func (b *broker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items)
}

// take finds a message for a lane, or tells when the next is due.
func (b *broker) take(m *member, partner string) (*queue.Message, chan struct{}, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// What is taken after lose would not come again.
	if b.serves != "" && b.serves != m.name || !m.alive() {
		return nil, b.changed, time.Hour
	}
	soon := time.Hour
	for _, i := range b.items {
		if i.holder != nil || i.message.Order.Partner != partner {
			continue
		}
		if wait := time.Until(i.due); wait > 0 {
			soon = min(soon, wait)
			continue
		}
		i.holder = m
		message := i.message
		message.Handle = i
		return &message, nil, 0
	}
	return nil, b.changed, soon
}

// letGo ends what a process held; with a next message, that waits instead.
func (b *broker) letGo(m *member, message *queue.Message, next *item) error {
	if !m.alive() {
		return errDead
	}
	b.mu.Lock()
	held := message.Handle.(*item)
	if held.holder == m {
		b.items = slices.DeleteFunc(b.items, func(i *item) bool { return i == held })
		if next != nil {
			b.later++
			b.items = append(b.items, next)
		}
	}
	b.mu.Unlock()
	b.wake()
	return nil
}

// share is the broker as a process has it.
type share struct{ m *member }

func (q *share) Lane(_ context.Context, partner string) (queue.Lane, error) {
	return &sharedLane{q.m, partner}, nil
}
func (q *share) Send(context.Context, ...*queue.Message) error { return nil }
func (q *share) Close(context.Context) error                   { return nil }

type sharedLane struct {
	m       *member
	partner string
}

func (l *sharedLane) Receive(ctx context.Context) (*queue.Message, error) {
	for {
		if !l.m.alive() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		message, changed, soon := l.m.broker.take(l.m, l.partner)
		if message != nil {
			return message, nil
		}
		select {
		case <-changed:
		case <-time.After(soon):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *sharedLane) Ack(_ context.Context, message *queue.Message) error {
	l.m.passes("acking", message.Order.ID)
	return l.m.broker.letGo(l.m, message, nil)
}

func (l *sharedLane) Defer(_ context.Context, message *queue.Message, due time.Time) error {
	l.m.passes("acking", message.Order.ID)
	next := &item{message: *message, due: due.Add(-l.m.skew)} // by the broker's clock
	next.message.Handle = nil
	return l.m.broker.letGo(l.m, message, next)
}

func (l *sharedLane) Status(context.Context) (queue.Status, error) { return queue.Status{}, nil }
func (l *sharedLane) Close() error                                 { return nil }
