package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// errNotHeld: the message is not held: it has been acknowledged or deferred, or
// another lane gave it.
var errNotHeld = errors.New("the message is not held")

// Lane is one partner's stream. Its methods are safe for concurrent use.
type Lane struct {
	queue   *Queue
	partner string
	ready   chan struct{} // a token: there may be something to receive
	ended   chan struct{} // closed when the lane is
	saving  sync.Mutex    // one checkpoint is written at a time

	scanner *fallbacklog.Reader // used by whoever set scanning

	mu       sync.Mutex
	loaded   bool
	closed   bool
	changed  bool // since the last checkpoint
	dueNext  bool // a due message goes before a fresh one
	scanning bool // somebody reads on in the log

	buffer  []first              // first deliveries that have been read
	blocks  blocks               // those that have not
	next    fallbacklog.Position // orders in blocks before it have been read
	waiting int64                // first deliveries in buffer and blocks
	touched fallbacklog.Position // no first delivery after it has been held
	handed  fallbacklog.Position // the last first delivery that was handed out
	mark    mark                 // of the checkpoint that was loaded

	schedule dueHeap[entry]
	returned dueHeap[*parcel] // deferred without a record
	out      map[*parcel]struct{}
	orders   map[gift.OrderID]*parcel // those in out whose order is known
	held     int64                    // those in out that are held
}

var _ queue.Lane = (*Lane)(nil)

func newLane(q *Queue, partner string) *Lane {
	return &Lane{
		queue: q, partner: partner, ready: make(chan struct{}, 1), ended: make(chan struct{}),
		out: make(map[*parcel]struct{}), orders: make(map[gift.OrderID]*parcel),
	}
}

// parcel is a message that has left the lane's stores and has not been let go.
type parcel struct {
	lane    *Lane
	state   parcelState
	order   gift.OrderID
	first   first          // of a first delivery
	entry   entry          // of a scheduled one
	later   entry          // of the newest record that the order got meanwhile
	due     int64          // of a returned one, Unix nanoseconds
	message *queue.Message // of a returned one
}

type parcelState uint8

const (
	looking  parcelState = iota // being looked up in the log
	held                        // with the receiver
	returned                    // waiting in lane.returned
	gone
)

func (p *parcel) dueAt() int64 { return p.due }

// carrier is the position of the record that brought the message.
func (p *parcel) carrier() fallbacklog.Position { return max(p.first.at, p.entry.at) }

// offer takes in the orders of a claim that the log has just got.
func (l *Lane) offer(rec *fallbacklog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	had := len(l.buffer)
	// The blocks have been read when they are empty, and what is appended now
	// comes next.
	if l.loaded && len(l.blocks.list) == 0 && had < prefetch {
		l.buffer = firsts(l.buffer, rec, l.partner)
		l.waiting += int64(len(l.buffer) - had)
		l.signal()
		return
	}
	n := int64(len(firsts(nil, rec, l.partner)))
	l.blocks.add(rec.At, n, claimedAt(rec))
	l.waiting += n
	l.signal()
}

// note takes in a record about an order that the log has just got.
func (l *Lane) note(rec *fallbacklog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.touched = max(l.touched, rec.Event.Origin)
	if !carries(rec.Kind) {
		return
	}
	e := entryOf(rec, l.queue.opts.Now())
	if p := l.orders[rec.Event.Order]; p != nil {
		// The order is not in the lane twice: what comes for one that is out waits
		// until it is let go.
		p.later = e
		if p.state == returned {
			l.release(p)
		}
	} else {
		l.schedule.push(e)
	}
	l.signal()
	l.touchLocked()
}

// Ack implements queue.Lane.
func (l *Lane) Ack(_ context.Context, m *queue.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.parcel(m)
	if err != nil {
		return err
	}
	l.release(p)
	return nil
}

// Defer implements queue.Lane. The due time is that of the order's record in the
// log. A message that has none is kept in memory and received at due, or when the
// lane is opened again.
func (l *Lane) Defer(ctx context.Context, m *queue.Message, due time.Time) error {
	row, ok, err := l.queue.log.Last(m.Order.ID)
	if err != nil {
		return err
	}
	if ok {
		if err := l.queue.reach(ctx, row.At+1); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.parcel(m)
	if err != nil {
		return err
	}
	if p.later.at != 0 || ok && row.At > p.carrier() && final(row.Kind) {
		l.release(p)
		return nil
	}
	again := *m
	again.Fresh, again.Handle = false, nil
	p.state, p.due, p.message = returned, due.UnixNano(), &again
	l.held--
	l.returned.push(p)
	l.signal()
	return nil
}

// parcel finds what belongs to a message that is held. It requires l.mu.
func (l *Lane) parcel(m *queue.Message) (*parcel, error) {
	if l.closed {
		return nil, queue.ErrClosed
	}
	p, ok := m.Handle.(*parcel)
	if !ok || p.lane != l || p.state != held {
		return nil, fmt.Errorf("lane %s: order %v: %w", l.partner, m.Order.ID, errNotHeld)
	}
	return p, nil
}

// release lets a parcel go. It requires l.mu.
func (l *Lane) release(p *parcel) {
	if p.state == held {
		l.held--
	}
	p.state, p.message = gone, nil
	delete(l.out, p)
	if l.orders[p.order] == p {
		delete(l.orders, p.order)
	}
	if p.later.at != 0 {
		l.schedule.push(p.later)
	}
	l.signal()
	l.touchLocked()
}

// Close implements queue.Lane. What it writes saves work after a restart; where
// that fails the lane is closed all the same.
func (l *Lane) Close() error {
	l.queue.mu.Lock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.queue.mu.Unlock()
		return nil
	}
	c := l.checkpoint()
	l.closed = true
	close(l.ended)
	if l.scanner != nil && !l.scanning {
		l.scanner.Close()
		l.scanner = nil
	}
	l.mu.Unlock()
	l.queue.mu.Unlock()
	// The name stays taken until the checkpoint is written, so that the lane is
	// not opened again from an older one.
	defer l.queue.remove(l)
	l.saving.Lock()
	defer l.saving.Unlock()
	if err := writeCheckpoint(l.queue.opts.Disk, l.queue.opts.Dir, l.partner, c); err != nil {
		return fmt.Errorf("lane %s: checkpoint: %w", l.partner, err)
	}
	return nil
}

// save writes a checkpoint if the lane has changed since the last one.
func (l *Lane) save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.queue.mu.Lock()
	l.mu.Lock()
	if l.closed || !l.changed {
		l.mu.Unlock()
		l.queue.mu.Unlock()
		return nil
	}
	c := l.checkpoint()
	l.changed = false
	l.mu.Unlock()
	l.queue.mu.Unlock()
	return writeCheckpoint(l.queue.opts.Disk, l.queue.opts.Dir, l.partner, c)
}

// checkpoint requires l.queue.mu and l.mu.
func (l *Lane) checkpoint() *checkpoint {
	c := &checkpoint{through: l.queue.seen, low: l.queue.seen, touched: max(l.touched, l.handed), mark: l.queue.mark}
	if c.mark == (mark{}) {
		c.mark = l.mark
	}
	if len(l.blocks.list) > 0 {
		c.low = max(l.next, l.blocks.list[0].first)
	}
	if len(l.buffer) > 0 {
		c.low = min(c.low, l.buffer[0].at)
	}
	c.entries = make([]entry, 0, len(l.schedule)+len(l.out))
	c.entries = append(c.entries, l.schedule...)
	for p := range l.out {
		if p.first.at != 0 {
			c.low = min(c.low, p.first.at)
		}
		if p.entry.at != 0 {
			c.entries = append(c.entries, p.entry)
		}
		if p.later.at != 0 {
			c.entries = append(c.entries, p.later)
		}
	}
	return c
}

// touch has the next checkpoint written.
func (l *Lane) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.touchLocked()
}

func (l *Lane) touchLocked() {
	if l.changed {
		return
	}
	l.changed = true
	select {
	case l.queue.dirty <- struct{}{}:
	default:
	}
}

func (l *Lane) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded && !l.closed
}
