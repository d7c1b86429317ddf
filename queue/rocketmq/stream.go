package rocketmq

import (
	"context"
	"time"

	"manna/queue"
)

const (
	// prefetch is how many messages of a queue wait in memory, give or take a pull.
	prefetch = 256
	// pullLimit is the most that a broker gives at once.
	pullLimit = 32
	// maxWindow bounds how far ahead of the lowest message that has not been let
	// go a queue is read, and so how much is received again after a crash.
	maxWindow = 8192
	// holdFor is how long a broker is asked to hold a pull for which there is nothing.
	holdFor = 15 * time.Second
	// pullMargin is what a pull may take beyond that. A broker looks through what it
	// holds every five seconds (its PullRequestHoldService), so each answer is up to
	// five seconds late when all is well, and a pause of its machine comes on top. Only
	// a broker that is silent with its connection open is noticed later for it: one that
	// has died breaks the connection, and whoever closes a lane cuts its pulls off.
	pullMargin = 15 * time.Second
	// dryFor is how long younger first deliveries of other queues wait for the next
	// ones of a queue that has run dry and is known to have more.
	dryFor = 50 * time.Millisecond

	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
)

// stream reads one queue of one topic for its lane.
type stream struct {
	lane   *Lane
	shard  shard
	kind   kind
	grace  time.Duration // to wait before it begins
	cancel context.CancelFunc
	room   chan struct{} // a token: there may be room for more

	// What follows is guarded by lane.mu.
	begun     bool
	more      bool      // the broker has more than was pulled
	dryAt     time.Time // since when the buffer is empty
	lost      bool      // another member of the group has the queue, or the lane is closed
	epoch     int       // rises when the window begins elsewhere
	window    window
	log       int64     // as a milestone has it, at the window's end
	buffer    []*parcel // first deliveries that have not been handed out
	held      int64     // messages with receivers
	waiting   int       // messages in the lane's stores that have not been handed out
	committed int64
	wroteAt   time.Time
}

// parcel is one message of a stream.
type parcel struct {
	stream  *stream
	epoch   int
	offset  int64
	state   parcelState
	msg     *queue.Message
	due     int64   // Unix nanoseconds
	index   int     // in the lane's heap, while it is there
	strange *stored // of one that cannot be read
	why     error
	told    bool // why has been logged
}

type parcelState uint8

const (
	waiting  parcelState = iota // in the stream's buffer or the lane's heap
	held                        // with the receiver
	kept                        // deferred and not sent: it waits in the heap
	shipping                    // on its way to another topic
	gone
)

// run reads until ctx ends.
func (s *stream) run(ctx context.Context) {
	if !pauseFor(ctx, s.grace) {
		return
	}
	trouble := newTrouble(s.lane.logger, "cannot read a queue of the lane; trying again", "queue", s.shard.String())
	for {
		at, err := s.lane.queue.cluster.place(ctx, s.lane.topics.group, s.shard)
		if err == nil {
			s.begin(at)
			break
		}
		if !trouble.pause(ctx, err) {
			return
		}
	}
	for {
		from, limit, epoch, ok := s.waitForRoom(ctx)
		if !ok {
			return
		}
		one, cancel := context.WithTimeout(ctx, holdFor+pullMargin)
		p, err := s.lane.queue.cluster.pull(one, s.lane.topics.group, s.shard, from, limit, holdFor)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			s.gone(err)
			// The broker may have forgotten us together with the connection.
			s.lane.regroup()
			if !trouble.pause(ctx, err) {
				return
			}
			continue
		}
		trouble.over()
		s.take(epoch, p)
	}
}

func (s *stream) begin(at int64) {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	s.begun, s.window.base, s.committed, s.wroteAt = true, at, at, time.Now()
}

// waitForRoom waits until another message may be taken in, and says from where
// and how many.
func (s *stream) waitForRoom(ctx context.Context) (from int64, limit, epoch int, ok bool) {
	for {
		s.lane.mu.Lock()
		from, epoch = s.window.next(), s.epoch
		limit = min(pullLimit, prefetch-s.waiting, maxWindow-len(s.window.gone))
		s.lane.mu.Unlock()
		// Small pulls are not worth their while.
		if limit >= pullLimit/2 {
			return from, limit, epoch, true
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return 0, 0, 0, false
		}
	}
}

// parcel reads a message that was pulled.
func (s *stream) parcel(m *stored) parcel {
	p := parcel{stream: s, offset: m.offset}
	msg, due, err := decodeMessage(m, s.lane.partner, s.lane.queue.opts.Node)
	if err != nil {
		p.strange, p.why = m, err
		return p
	}
	p.msg = msg
	if !due.IsZero() {
		p.due = due.UnixNano()
	}
	return p
}

// take puts what was pulled at the end of an epoch's window into the lane's stores.
func (s *stream) take(epoch int, p pulled) {
	l := s.lane
	// All streams share the lock with the receiver, so they read their messages first.
	parcels := make([]parcel, len(p.msgs))
	for i := range p.msgs {
		parcels[i] = s.parcel(&p.msgs[i])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.lost || epoch != s.epoch {
		return
	}
	switch at := (milestone{s.window.next(), s.log}); {
	case p.isOfAnotherStore(at):
		l.logger.Error("the broker has lost messages, or its whole store: the lane's queue ends before the place that the lane had reached, or is another one; it is read from where it begins now, and the reconciler finds which orders are missing and brings them back (manna reconcile)",
			"topic", s.shard.topic, "queue", s.shard.String(), "place", at.offset, "max", p.end, "to", p.begin)
		s.startAt(p.begin)
		return
	case p.moved:
		l.logger.Error("the broker has removed messages before the lane read them; the reconciler finds which orders are missing and brings them back (manna reconcile)",
			"topic", s.shard.topic, "queue", s.shard.String(), "place", at.offset, "to", p.next)
		s.startAt(p.next)
		return
	}
	for i := range parcels {
		one := &parcels[i]
		if one.offset < s.window.next() {
			continue
		}
		s.window.skip(one.offset)
		s.window.add()
		s.waiting++
		one.epoch = s.epoch
		l.sort(one)
	}
	s.window.skip(p.next)
	if n := len(p.msgs); n > 0 {
		s.log = p.msgs[n-1].log
	}
	if s.more || len(p.msgs) > 0 {
		l.signal()
	}
	s.more = p.more()
}

// startAt has the queue read from another offset on. What is held of it can be let go
// as ever, and comes again if it is still there. It requires lane.mu.
func (s *stream) startAt(at int64) {
	s.epoch++
	s.window, s.log, s.more = window{base: at}, 0, true
	s.makeRoom()
}

// gone has the queue read from its beginning, and its topic made anew, where an error
// says that the topic is gone.
func (s *stream) gone(err error) {
	l := s.lane
	if !l.queue.missed(l.topics, err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shards[s.kind], l.shardsAt = nil, time.Time{}
	if at := s.window.next(); at > 0 && !s.lost {
		l.logger.Error("a queue of the lane is gone: the broker has lost its store, or somebody has removed the topic; it is made anew and read from its beginning, and the reconciler finds which orders are missing and brings them back (manna reconcile)",
			"topic", s.shard.topic, "queue", s.shard.String(), "place", at)
		s.startAt(0)
	}
	l.regroup()
}

// took notes that a message has left the lane's stores. It requires lane.mu.
func (s *stream) took() {
	s.waiting--
	s.makeRoom()
}

func (s *stream) makeRoom() {
	if s.waiting <= prefetch/2 && len(s.window.gone) <= maxWindow/2 || s.waiting == 0 {
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
}

// release lets a parcel go. It requires lane.mu.
func (p *parcel) release() {
	p.state, p.msg, p.strange = gone, nil, nil
	if s := p.stream; p.epoch == s.epoch {
		s.window.release(p.offset)
		s.makeRoom()
	}
}

// dueHeap is a heap of parcels, the earliest on top.
type dueHeap []*parcel

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	p := x.(*parcel)
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}
