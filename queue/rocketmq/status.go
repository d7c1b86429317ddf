package rocketmq

import (
	"context"
	"errors"
	"time"

	"manna/queue"
)

const (
	// timerMargin is how far the times at which a broker's timer releases messages
	// may be out of order, and how late it may take a message in.
	timerMargin = 10 * time.Minute
	// maxHoles bounds how often a place without a message is passed over.
	maxHoles = 100
	// appearFor is how long a message that has been stored may take to be found.
	appearFor = time.Second
)

// Status implements queue.Lane. Its watermarks and its backlog are the whole
// group's. doc.go says why they cover everything and how far the numbers are
// estimates.
func (l *Lane) Status(ctx context.Context) (queue.Status, error) {
	l.mu.Lock()
	closed, held := l.closed, l.held
	l.mu.Unlock()
	if closed {
		return queue.Status{}, queue.ErrClosed
	}
	s := queue.Status{AsOf: time.Now().Truncate(time.Millisecond).UTC(), Held: held}
	// What this process has let go need not be counted any more.
	if err := l.write(ctx, l.all()); err != nil {
		return s, err
	}
	all, err := l.allShards(ctx)
	if err != nil {
		return s, err
	}
	// A message that moves while this goes on is sent to its new queue before its old
	// one's place passes it. All places are read first: where its old one's is beyond
	// it, it is stored behind its new one's by then, and seen there.
	places, err := l.places(ctx, all)
	if err != nil {
		return s, err
	}
	oldest := lowest{marks: l.queue.marks, kind: claimTimes}
	due := lowest{marks: l.queue.marks, kind: dueTimes}
	if err := l.settle(ctx, all); err != nil {
		return s, err
	}
	var left [kinds]int64
	for k, see := range [kinds]func(*Lane, *stored){firsts: oldest.firstDelivery, soon: due.stored, later: due.released} {
		if left[k], err = l.survey(ctx, all[k], places, see); err != nil {
			return s, err
		}
	}
	s.Backlog, s.Deferred = left[firsts], left[soon]+left[later]
	for _, addr := range brokers(all) {
		at, err := l.queue.cluster.timerAt(ctx, addr)
		if err != nil {
			return s, err
		}
		due.atMost(at.Add(-timerMargin))
		waiting, err := l.queue.cluster.timing(ctx, addr, l.topics.of[later])
		if err != nil {
			return s, err
		}
		s.Deferred += waiting
	}
	if s.Oldest, err = oldest.time(ctx); err != nil {
		return s, err
	}
	if s.OldestSeen = oldest.seen; s.OldestSeen.IsZero() {
		s.OldestSeen = s.Oldest // nothing of what waits could be read
	}
	if s.OldestDue, err = due.time(ctx); err != nil {
		return s, err
	}
	if s.Aside, err = l.aside(ctx); err != nil {
		return s, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh, again := l.heldOf()
	s.Backlog, s.Deferred = max(s.Backlog-fresh, 0), max(s.Deferred-again, 0)
	l.last = s
	return s, nil
}

// Status tells what is in a partner's lane, open here or not: whoever reconciles
// need not be one that delivers. Of a lane that is not open here Held is zero, and
// what its members hold counts as waiting.
func (q *Queue) Status(ctx context.Context, partner string) (queue.Status, error) {
	t, err := topicsOf(q.opts.Group, partner)
	if err != nil {
		return queue.Status{}, err
	}
	q.mu.Lock()
	l, closed := q.lanes[partner], q.closed
	q.mu.Unlock()
	if closed {
		return queue.Status{}, queue.ErrClosed
	}
	open := l != nil
	if !open {
		l = newLane(q, partner, t)
	}
	// A name server that was started again knows no topic until the brokers have told it.
	for again := false; ; again = true {
		if !open || again {
			if err := q.provide(ctx, t); err != nil {
				return queue.Status{}, err
			}
		}
		s, err := l.Status(ctx)
		if !q.missed(t, err) || again {
			return s, err
		}
	}
}

func (l *Lane) settle(ctx context.Context, all [kinds][]shard) error {
	for _, addr := range brokers(all) {
		if err := l.queue.cluster.settle(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

// aside counts what has been put aside. The topic is not there before anything has.
func (l *Lane) aside(ctx context.Context) (n int64, err error) {
	c := l.queue.cluster
	shards, err := c.shards(ctx, l.topics.aside, permRead)
	for _, s := range shards {
		begin, failed := c.begin(ctx, s)
		end, alsoFailed := c.end(ctx, s)
		n, err = n+end-begin, errors.Join(err, failed, alsoFailed)
	}
	if isGone(err) {
		return 0, nil
	}
	return n, err
}

// heldOf counts what this process holds of first deliveries and of the rest. It
// requires l.mu.
func (l *Lane) heldOf() (fresh, again int64) {
	for _, s := range l.streams {
		if s.kind == firsts {
			fresh += s.held
		} else {
			again += s.held
		}
	}
	return fresh, again
}

// places reads the group's place in each queue.
func (l *Lane) places(ctx context.Context, all [kinds][]shard) (map[shardKey]int64, error) {
	places := make(map[shardKey]int64)
	for _, shards := range all {
		for _, s := range shards {
			at, err := l.queue.cluster.place(ctx, l.topics.group, s)
			if err != nil {
				return nil, err
			}
			places[s.key()] = at
		}
	}
	return places, nil
}

// survey counts the messages of queues that lie behind the group's places, and
// shows see the first of them in each queue that has any.
func (l *Lane) survey(ctx context.Context, shards []shard, places map[shardKey]int64, see func(*Lane, *stored)) (left int64, err error) {
	c := l.queue.cluster
	for _, s := range shards {
		at := places[s.key()]
		end, err := c.end(ctx, s)
		if err != nil {
			return left, err
		}
		for holes := 0; at < end; holes++ {
			p, err := c.pull(ctx, l.topics.group, s, at, 1, appearFor)
			if err != nil {
				return left, err
			}
			if len(p.msgs) > 0 {
				left += end - p.msgs[0].offset
				see(l, &p.msgs[0])
				break
			}
			if p.next <= at || holes == maxHoles {
				// The broker says that there is something and does not show it: it may be
				// of any age.
				left += end - at
				see(l, nil)
				break
			}
			at = p.next
		}
	}
	return left, nil
}

// lowest gathers a watermark.
type lowest struct {
	marks *marks
	kind  mark
	known time.Time // no message is below, but for those that marks tell of
	since time.Time // the oldest storing of those
	seen  time.Time // the lowest that was seen, in whole milliseconds; only of first deliveries
}

func (w *lowest) atMost(t time.Time) {
	if w.known.IsZero() || t.Before(w.known) {
		w.known = t
	}
}

// stored sees a message behind which are others, stored later, whose times are
// known by the marks alone.
func (w *lowest) stored(_ *Lane, m *stored) {
	switch {
	case m == nil:
		w.atMost(time.Unix(0, 0))
	case w.since.IsZero() || m.at.Before(w.since):
		w.since = m.at
	}
}

func (w *lowest) firstDelivery(l *Lane, m *stored) {
	w.stored(l, m)
	if m == nil {
		return
	}
	if msg, _, err := decodeMessage(m, l.partner, l.queue.opts.Node); err == nil {
		at := msg.Claim.ClaimedAt
		w.atMost(at)
		if w.seen.IsZero() || at.Before(w.seen) {
			w.seen = at.Truncate(time.Millisecond).UTC()
		}
	}
}

// released sees a message behind which are others, which the timer gave back after
// it, or not much before: none of them is due much before it was given back.
func (w *lowest) released(l *Lane, m *stored) {
	if m == nil {
		w.atMost(time.Unix(0, 0))
		return
	}
	_, at, err := decodeMessage(m, l.partner, l.queue.opts.Node)
	if release := m.property(propRelease); err == nil && release != "" {
		at, err = instant(release)
	}
	if err != nil {
		at = time.Unix(0, 0)
	}
	w.atMost(at.Add(-timerMargin))
}

// time is the watermark in whole milliseconds, rounded down as the times in index
// rows are.
func (w *lowest) time(ctx context.Context) (time.Time, error) {
	if !w.since.IsZero() {
		t, err := w.marks.lowest(ctx, w.kind, w.since)
		if err != nil {
			return time.Time{}, err
		}
		w.atMost(t)
	}
	if w.known.IsZero() {
		return w.known, nil
	}
	return w.known.Truncate(time.Millisecond).UTC(), nil
}
