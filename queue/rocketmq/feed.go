package rocketmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// encoded gives a message's claim in its wire format.
func encoded(m *queue.Message) string {
	if m.Encoded != "" {
		return m.Encoded
	}
	return string(fallbacklog.AppendClaim(nil, m.Claim))
}

// Feed implements queue.Feedable. While the breaker refuses, it waits.
func (q *Queue) Feed(ctx context.Context, msgs []*queue.Message) (confirmed func() error) {
	if err := q.enter(); err != nil {
		return ended(err)
	}
	defer q.work.Done()
	if len(msgs) == 0 {
		return ended(nil)
	}
	// Before anything is sent: whoever feeds leaves these out and feeds the rest
	// again, which is stored once then.
	if _, refused, err := q.willing(ctx, msgs); refused != nil || err != nil {
		return ended(cmp.Or(refused, err))
	}
	return q.sendAll(ctx, waits, msgs, time.Time{}, firsts, q.feeding)
}

// ended is said of what is on its way no more.
func ended(err error) (confirmed func() error) { return func() error { return err } }

// Send implements queue.Queue. While the breaker refuses, it fails.
func (q *Queue) Send(ctx context.Context, msgs ...*queue.Message) error {
	if err := q.enter(); err != nil {
		return err
	}
	defer q.work.Done()
	if len(msgs) == 0 {
		return nil
	}
	now := time.Now()
	// The records that brought these orders back are a moment older.
	if err := q.marks.cover(ctx, fails, dueTimes, now.Add(-markMargin)); err != nil {
		return err
	}
	msgs, refused, err := q.willing(ctx, msgs)
	confirmed := q.sendAll(ctx, fails, msgs, now, soon, make(chan struct{}, q.opts.Senders))
	return errors.Join(refused, err, confirmed())
}

// willing sees to the topics of messages, and leaves out those whose topics are not
// there: refused says which lanes the cluster refuses for good, err what failed of the
// others.
func (q *Queue) willing(ctx context.Context, msgs []*queue.Message) (taken []*queue.Message, refused, err error) {
	seen := make(map[string]bool) // whether it takes the partner's
	for i, m := range msgs {
		partner := m.Order.Partner
		if i > 0 && partner == msgs[i-1].Order.Partner {
			continue
		}
		if _, known := seen[partner]; known {
			continue
		}
		t, failed := topicsOf(q.opts.Group, partner)
		lasting := failed != nil
		if failed == nil {
			failed = q.provide(ctx, t)
			lasting = isLasting(failed)
		}
		seen[partner] = failed == nil
		switch {
		case lasting:
			refused = errors.Join(refused, &queue.LaneRefusedError{Partner: partner, Err: failed})
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("lane %s: %w", partner, failed))
		}
	}
	if refused == nil && err == nil {
		return msgs, nil, nil
	}
	for _, m := range msgs {
		if seen[m.Order.Partner] {
			taken = append(taken, m)
		}
	}
	return taken, refused, err
}

// sendAll sends messages, all to be received at due, as many requests at a time as there
// are slots, and returns when the last is on its way; confirmed waits until all have
// ended. The first is on its way while the next is packed.
func (q *Queue) sendAll(ctx context.Context, p patience, msgs []*queue.Message, due time.Time, k kind, slots chan struct{}) (confirmed func() error) {
	var work sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	err := q.pack(msgs, due, k, func(b *batch) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		q.work.Add(1) // beside that of the caller
		work.Go(func() {
			defer func() {
				<-slots
				q.work.Done()
			}()
			if err := q.sendOne(ctx, p, b); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
				return // what was not answered may still be read
			}
			b.empty()
			q.batches.Put(b)
		})
		return nil
	})
	return func() error {
		work.Wait()
		return errors.Join(err, failed)
	}
}

// pack makes batches of messages, each lane's in their order, and gives each away as
// soon as it is full. After an error some have been given away, and the rest is not.
func (q *Queue) pack(msgs []*queue.Message, due time.Time, k kind, give func(*batch) error) error {
	open := make(map[string]*batch)
	var claim *gift.Claim
	var wire string
	for _, m := range msgs {
		if m.Claim != claim {
			claim, wire = m.Claim, encoded(m)
		}
		b := open[m.Order.Partner]
		if b != nil && !b.fits(wire, q.opts.Node, q.opts.Batch) {
			if err := give(b); err != nil {
				return err
			}
			b = nil
		}
		if b == nil {
			var err error
			if b, err = q.batch(m, k); err != nil {
				return err
			}
			open[m.Order.Partner] = b
		}
		if err := b.add(m, q.opts.Node, wire, due); err != nil {
			return err
		}
	}
	for _, b := range open {
		if err := give(b); err != nil {
			return err
		}
	}
	return nil
}

// batch begins one for a message's lane.
func (q *Queue) batch(m *queue.Message, k kind) (*batch, error) {
	t, err := topicsOf(q.opts.Group, m.Order.Partner)
	if err != nil {
		return nil, &queue.RefusedError{Order: m.Order.ID, Err: err}
	}
	b, ok := q.batches.Get().(*batch)
	if !ok {
		b = new(batch)
	}
	b.lane, b.topic = t, t.of[k]
	return b, nil
}

// sendOne sends one request. Where the broker takes none of this size, it is
// halved; what is still too large alone is refused.
func (q *Queue) sendOne(ctx context.Context, p patience, b *batch) error {
	var err error
	for {
		// Of a Feed, which may have waited long for its slot.
		if p == waits {
			if err := q.marks.cover(ctx, waits, claimTimes, b.oldest); err != nil {
				return err
			}
		}
		if err = q.sender.send(ctx, fails, b.topic, b.message()); p == fails || !errors.Is(err, breaker.ErrOpen) {
			break
		}
		// The breaker may be held for hours, and the mark is too old then. So another
		// mark waits there, and the messages follow it.
		q.marks.renew()
	}
	if !errors.Is(err, errTooLarge) {
		if err != nil && !errors.Is(err, breaker.ErrOpen) && !q.missed(b.lane, err) {
			q.topics.doubt(b.lane.of[0])
		}
		return err
	}
	if len(b.msgs) == 1 {
		return &queue.RefusedError{Order: b.msgs[0].Order.ID, Err: err}
	}
	first, second := b.halves()
	return errors.Join(q.sendOne(ctx, p, first), q.sendOne(ctx, p, second))
}
