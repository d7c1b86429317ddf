package rocketmq

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"manna/queue"
)

const (
	// soonWithin is how near a due time may be for the message to be sent without a
	// delay: the broker's timer counts in seconds, and the lane that receives it
	// waits for the rest.
	soonWithin = 2 * time.Second
	// tooEarly is how long before its due time a message is sent away again.
	tooEarly = time.Minute
)

// Defer implements queue.Lane. Where the message cannot be sent, because the
// broker is away or the breaker is open, it stays with the lane: it is received
// from there when it is due, and sent when that is possible again; after a crash
// the message that was held comes again, as it was.
func (l *Lane) Defer(ctx context.Context, m *queue.Message, due time.Time) error {
	l.mu.Lock()
	p, err := l.take(m)
	if err != nil {
		l.mu.Unlock()
		return err
	}
	p.state, p.due = shipping, due.UnixNano()
	again := *m
	again.Handle, again.Fresh = nil, false
	p.msg = &again
	l.mu.Unlock()
	err = l.postpone(ctx, p.msg, due)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		p.release()
		return nil
	}
	if l.closed {
		return queue.ErrClosed
	}
	l.logger.Debug("a deferred message stays with its lane", "order_id", m.Order.ID, "due", due, "err", err)
	l.stay(p)
	return nil
}

// stay has a parcel wait for its due time here, and be sent before if possible.
// It requires l.mu.
func (l *Lane) stay(p *parcel) {
	p.state = kept
	heap.Push(&l.due, p)
	l.toBeShipped(p)
	l.signal()
}

// postpone sends a message to be received at due.
func (l *Lane) postpone(ctx context.Context, m *queue.Message, due time.Time) error {
	q := l.queue
	if q.topics.standing(l.topics.of[firsts]) == missing {
		return errNoTopic // the lane has it made; whoever defers is not to wait for that
	}
	out, err := q.outgoing(m, due)
	if err != nil {
		return err
	}
	if left := time.Until(due); left > soonWithin {
		release := due
		if left > q.opts.MaxDelay {
			release = time.Now().Add(q.opts.MaxDelay)
			out.WithProperty(propRelease, strconv.FormatInt(release.UnixNano(), 10))
		}
		out.WithDelayTimestamp(release)
		return l.send(ctx, later, out)
	}
	if err := q.marks.cover(ctx, fails, dueTimes, due); err != nil {
		return err
	}
	return l.send(ctx, soon, out)
}

// outgoing makes the message for an order, to be received at due; at once where
// that is the zero time.
func (q *Queue) outgoing(m *queue.Message, due time.Time) (*primitive.Message, error) {
	claim := encoded(m)
	if err := bounded(m.Order.ID, q.opts.Node, claim); err != nil {
		return nil, err
	}
	body, err := appendBody(nil, m, q.opts.Node, claim)
	if err != nil {
		return nil, err
	}
	out := &primitive.Message{Body: body}
	if p := properties(m, due); p != nil {
		out.WithProperties(p)
	}
	return out, nil
}

func (l *Lane) send(ctx context.Context, k kind, out *primitive.Message) error {
	err := l.queue.sender.send(ctx, fails, l.topics.of[k], out)
	if l.queue.missed(l.topics, err) {
		l.regroup()
	}
	return err
}

// toBeShipped has the lane send a parcel elsewhere. It requires l.mu.
func (l *Lane) toBeShipped(p *parcel) {
	l.ships = append(l.ships, p)
	select {
	case l.toShip <- struct{}{}:
	default:
	}
}

// ship sends what is to go elsewhere, until ctx ends: messages that came too early
// or could not be deferred, and those that cannot be read.
func (l *Lane) ship(ctx context.Context) {
	trouble := newTrouble(l.logger, "cannot send messages of the lane on; those that were deferred stay here, and those that cannot be read are in the way")
	for {
		select {
		case <-l.toShip:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		ships := l.ships
		l.ships = nil
		l.mu.Unlock()
		for i, p := range ships {
			err := l.shipOne(ctx, p)
			if err == nil {
				trouble.over()
				continue
			}
			// The others would each wait as long for a broker that is away. This one goes
			// behind them, lest it is the only one that cannot go.
			l.mu.Lock()
			l.ships = append(ships[i+1:], l.ships...)
			l.mu.Unlock()
			if !trouble.pause(ctx, err) {
				return
			}
			break
		}
	}
}

// shipOne sends a parcel on, unless somebody else has it by now. A parcel that
// could not be sent is left for the next time.
func (l *Lane) shipOne(ctx context.Context, p *parcel) error {
	l.mu.Lock()
	wasKept := p.state == kept
	due := time.Unix(0, p.due)
	if p.state != shipping && !wasKept || p.stream.lost || wasKept && time.Until(due) < soonWithin || ctx.Err() != nil {
		l.mu.Unlock()
		return nil
	}
	if wasKept {
		heap.Remove(&l.due, p.index)
	}
	p.state = shipping
	m, strange := p.msg, p.strange
	l.mu.Unlock()
	var err error
	if strange != nil {
		err = l.putAside(ctx, p)
	} else {
		err = l.postpone(ctx, m, due)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		if !wasKept {
			p.stream.took()
		}
		p.release()
	case wasKept:
		l.stay(p)
	default:
		l.toBeShipped(p)
	}
	return err
}

// Names of the properties that a message gets when it is put aside.
const (
	propFrom = "aside_from"
	propWhy  = "aside_why"
)

// putAside moves a message that cannot be read to the lane's aside topic.
//
// Commit point: it is acknowledged once it is there.
func (l *Lane) putAside(ctx context.Context, p *parcel) error {
	q, from := l.queue, fmt.Sprintf("%v:%d", p.stream.shard, p.offset)
	if !p.told {
		p.told = true
		l.logger.Error("a message of the lane cannot be read and is put aside; the reconciler brings its order back if it was one of ours", "message", from, "to", l.topics.aside, "why", p.why)
	}
	// No lane needs this topic until something strange comes.
	err := q.topics.provide(ctx, 1, l.topics.aside)
	if err == nil {
		out := primitive.NewMessage(l.topics.aside, p.strange.body)
		out.WithProperty(propFrom, from)
		out.WithProperty(propWhy, p.why.Error())
		err = q.sender.send(ctx, fails, l.topics.aside, out)
	}
	if err != nil {
		q.topics.missed(l.topics.aside, err)
		return fmt.Errorf("%s: %w", from, err)
	}
	why := errForeign
	if errors.Is(p.why, errNewer) {
		why = errNewer
	}
	q.metrics.aside.WithLabelValues(l.partner, why.Error()).Inc()
	return nil
}
