package rocketmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

const (
	// maxRequest bounds the bytes of a request. Brokers take 4 MiB unless told
	// otherwise.
	maxRequest = 1 << 20
	// perMessage is what a message takes beside its body and its properties.
	perMessage = 128
)

// outgoing makes the message for an order, to be received at due; at once where
// that is the zero time.
func (q *Queue) outgoing(m *queue.Message, due time.Time) (*primitive.Message, error) {
	out := new(primitive.Message)
	_, err := q.write(out, nil, m, due, encoded(m))
	return out, err
}

// encoded gives a message's claim in its wire format.
func encoded(m *queue.Message) string {
	if m.Encoded != "" {
		return m.Encoded
	}
	return string(fallbacklog.AppendClaim(nil, m.Claim))
}

// bodyRoom is how many bytes of bodies are allocated at once.
const bodyRoom = 64 << 10

// write makes out the message for an order whose claim has been encoded. Its body
// goes behind what is in room, which write gives back.
func (q *Queue) write(out *primitive.Message, room []byte, m *queue.Message, due time.Time, claim string) ([]byte, error) {
	if most := len(claim) + len(q.opts.Node) + bodyFrame; most > cap(room)-len(room) {
		room = make([]byte, 0, max(most, bodyRoom))
	}
	from := len(room)
	room, err := appendBody(room, m, q.opts.Node, claim)
	if err != nil {
		return nil, err
	}
	if out.Body = room[from:len(room):len(room)]; len(out.Body) > maxRequest-perMessage {
		return nil, &queue.RefusedError{Order: m.Order.ID, Err: fmt.Errorf("its message has %d bytes, more than the %d that a request may have", len(out.Body), maxRequest)}
	}
	if p := properties(m, due); p != nil {
		out.WithProperties(p)
	}
	return room, nil
}

// parcelled are messages of one lane that go to the broker in one request.
type parcelled struct {
	lane   topics
	topic  string
	msgs   []*primitive.Message
	orders []gift.OrderID
	oldest time.Time // of their claims
	bytes  int
}

// Feed implements queue.Feedable. While the breaker refuses, it waits.
func (q *Queue) Feed(ctx context.Context, msgs []*queue.Message) error {
	if err := q.enter(); err != nil {
		return err
	}
	defer q.work.Done()
	if len(msgs) == 0 {
		return nil
	}
	oldest := msgs[0].Claim.ClaimedAt
	for _, m := range msgs {
		if m.Claim.ClaimedAt.Before(oldest) {
			oldest = m.Claim.ClaimedAt
		}
	}
	if err := q.marks.cover(ctx, waits, claimTimes, oldest); err != nil {
		return err
	}
	// Before anything is sent: whoever feeds leaves these out and feeds the rest
	// again, which is stored once then.
	if _, refused, err := q.willing(ctx, msgs); refused != nil || err != nil {
		return cmp.Or(refused, err)
	}
	return q.sendAll(ctx, waits, msgs, time.Time{}, firsts)
}

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
	return errors.Join(refused, err, q.sendAll(ctx, fails, msgs, now, soon))
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

// sendAll sends messages, all to be received at due, a few requests at a time, and
// returns when all have ended. The first is on its way while the next is packed.
func (q *Queue) sendAll(ctx context.Context, p patience, msgs []*queue.Message, due time.Time, k kind) error {
	slots := make(chan struct{}, q.opts.Senders)
	var work sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	err := q.pack(msgs, due, k, func(r *parcelled) {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if err := q.sendOne(ctx, p, r); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	})
	work.Wait()
	return errors.Join(err, failed)
}

// pack makes requests of messages, each lane's in their order, and gives each away as
// soon as it is full. After an error some have been given away, and the rest is not.
func (q *Queue) pack(msgs []*queue.Message, due time.Time, k kind, give func(*parcelled)) (err error) {
	open := make(map[string]*parcelled)
	var claim *gift.Claim
	var wire string
	var room []byte
	var some []primitive.Message
	for i, m := range msgs {
		if m.Claim != claim {
			claim, wire = m.Claim, encoded(m)
		}
		if len(some) == 0 {
			some = make([]primitive.Message, min(q.opts.Batch, len(msgs)-i))
		}
		out := &some[0]
		some = some[1:]
		if room, err = q.write(out, room, m, due, wire); err != nil {
			return err
		}
		size := len(out.Body) + perMessage
		r := open[m.Order.Partner]
		if r != nil && (len(r.msgs) >= q.opts.Batch || r.bytes+size > maxRequest) {
			give(r)
			r = nil
		}
		if r == nil {
			if r, err = q.parcel(m, k); err != nil {
				return err
			}
			open[m.Order.Partner] = r
		}
		r.msgs, r.orders, r.bytes = append(r.msgs, out), append(r.orders, m.Order.ID), r.bytes+size
		if m.Claim.ClaimedAt.Before(r.oldest) {
			r.oldest = m.Claim.ClaimedAt
		}
	}
	for _, r := range open {
		give(r)
	}
	return nil
}

// parcel begins a request for a message's lane.
func (q *Queue) parcel(m *queue.Message, k kind) (*parcelled, error) {
	t, err := topicsOf(q.opts.Group, m.Order.Partner)
	if err != nil {
		return nil, &queue.RefusedError{Order: m.Order.ID, Err: err}
	}
	return &parcelled{lane: t, topic: t.of[k], oldest: m.Claim.ClaimedAt}, nil
}

// sendOne sends one request. Where the broker takes none of this size, it is
// halved; what is still too large alone is refused.
func (q *Queue) sendOne(ctx context.Context, p patience, r *parcelled) error {
	err := q.sender.send(ctx, fails, r.topic, r.msgs...)
	for p == waits && errors.Is(err, breaker.ErrOpen) {
		// The breaker may be held for hours, and the mark is too old then. So another
		// mark waits there, and the messages follow it.
		q.marks.renew()
		if err := q.marks.cover(ctx, p, claimTimes, r.oldest); err != nil {
			return err
		}
		err = q.sender.send(ctx, fails, r.topic, r.msgs...)
	}
	if !errors.Is(err, errTooLarge) {
		if err != nil && !errors.Is(err, breaker.ErrOpen) && !q.missed(r.lane, err) {
			q.topics.doubt(r.lane.of[0])
		}
		return err
	}
	if len(r.msgs) == 1 {
		return &queue.RefusedError{Order: r.orders[0], Err: err}
	}
	half := len(r.msgs) / 2
	first := &parcelled{lane: r.lane, topic: r.topic, msgs: r.msgs[:half], orders: r.orders[:half], oldest: r.oldest}
	second := &parcelled{lane: r.lane, topic: r.topic, msgs: r.msgs[half:], orders: r.orders[half:], oldest: r.oldest}
	return errors.Join(q.sendOne(ctx, p, first), q.sendOne(ctx, p, second))
}
