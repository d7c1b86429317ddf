package embedded

import (
	"context"
	"fmt"
	"time"

	"manna/fallbacklog"
	"manna/queue"
)

// longestWait bounds how late a step of the wall clock is noticed.
const longestWait = time.Minute

// Receive implements queue.Lane.
func (l *Lane) Receive(ctx context.Context) (*queue.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := l.queue.failure(); err != nil {
			return nil, fmt.Errorf("lane %s: %w", l.partner, err)
		}
		p, todo, wait := l.choose()
		var m *queue.Message
		var err error
		switch todo {
		case look:
			m, err = l.look(p)
		case scan:
			err = l.scan()
		case idle:
			err = l.wait(ctx, wait)
		case end:
			err = queue.ErrClosed
		}
		if m != nil || err != nil {
			return m, err
		}
	}
}

// task is what a receiver does next.
type task uint8

const (
	look task = iota // look at the parcel that was taken
	scan             // read on in the log
	idle             // wait
	end              // the lane is closed
)

// choose takes the next message out of the lane's stores. Where both kinds are
// there it takes them in turn.
func (l *Lane) choose() (*parcel, task, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, end, 0
	}
	now := l.queue.opts.Now().UnixNano()
	for len(l.returned) > 0 && l.returned[0].state == gone {
		l.returned.pop()
	}
	soonest := none
	if len(l.schedule) > 0 {
		soonest = l.schedule[0].due
	}
	if len(l.returned) > 0 {
		soonest = min(soonest, l.returned[0].due)
	}
	due := soonest <= now
	// A fresh order is handed out only where there is room to defer it.
	room := len(l.schedule)+len(l.out) < l.queue.opts.MaxDeferred
	fresh := room && len(l.buffer) > 0
	unread := room && len(l.buffer) == 0 && len(l.blocks.list) > 0 && !l.scanning
	var p *parcel
	switch {
	case due && (l.dueNext || !fresh && !unread):
		p = l.takeDue(now)
		l.dueNext = false
	case fresh:
		p = l.takeFresh()
		l.dueNext = true
	case unread:
		l.scanning = true
		return nil, scan, 0
	default:
		return nil, idle, min(time.Duration(soonest-now), longestWait)
	}
	if len(l.buffer)+len(l.blocks.list)+len(l.schedule)+len(l.returned) > 0 {
		// One token wakes one receiver, and that one wakes the next, if only to
		// have it wait for the due time that this one was waiting for.
		l.signal()
	}
	return p, look, 0
}

func (l *Lane) takeDue(now int64) *parcel {
	if len(l.returned) > 0 && l.returned[0].due <= now {
		p := l.returned.pop()
		p.state = looking
		return p
	}
	p := &parcel{lane: l, entry: l.schedule.pop()}
	l.out[p] = struct{}{}
	return p
}

func (l *Lane) takeFresh() *parcel {
	f := l.buffer[0]
	l.buffer[0] = first{}
	if l.buffer = l.buffer[1:]; len(l.buffer) == 0 {
		l.buffer = nil
	}
	p := &parcel{lane: l, first: f, order: f.claim.Orders[f.index].ID}
	l.out[p] = struct{}{}
	return p
}

// wait blocks until there may be something to receive.
func (l *Lane) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.ready:
	case <-timer.C:
	case <-l.ended:
	case <-l.queue.failed:
	case <-ctx.Done():
		// Another receiver may be waiting for a later due time than this one was.
		l.signal()
		return ctx.Err()
	}
	return nil
}

func (l *Lane) signal() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// scan reads on in the log, from the first block on. Only one receiver does so
// at a time.
func (l *Lane) scan() error {
	l.mu.Lock()
	from, last := max(l.next, l.blocks.list[0].first), l.blocks.list[0].last
	l.mu.Unlock()
	var found []first
	var err error
	next := from
	r := l.readerAt(from)
	for n := 0; n < scanRecords && len(found) < prefetch && next <= last; n++ {
		var rec *fallbacklog.Record
		if rec, err = r.TryNext(); err != nil {
			err = fmt.Errorf("lane %s: first deliveries at %v: %w", l.partner, next, err)
			// The reader may have moved past what it could not read.
			r.Close()
			l.scanner = nil
			break
		}
		found = firsts(found, rec, l.partner)
		next = r.Position()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scanning = false
	l.buffer = append(l.buffer, found...)
	l.next = next
	l.blocks.drop(next)
	if (l.closed || len(l.blocks.list) == 0) && l.scanner != nil {
		l.scanner.Close()
		l.scanner = nil
	}
	// A long stretch without orders of this lane is no reason to let what is due
	// wait.
	l.dueNext = l.dueNext || len(found) == 0
	l.signal()
	return err
}

// readerAt gives the scanner's reader, at from or not far before it.
func (l *Lane) readerAt(from fallbacklog.Position) *fallbacklog.Reader {
	if r := l.scanner; r != nil {
		if at := r.Position(); at.Segment() == from.Segment() && at <= from && from-at <= blockGap || at == from {
			return r
		}
		r.Close()
	}
	l.scanner = l.queue.log.Reader(from, fallbacklog.Claimed)
	return l.scanner
}

// look makes the message of a parcel. No message means that it need not be
// received: the order is settled, or something else in the lane stands for it.
func (l *Lane) look(p *parcel) (*queue.Message, error) {
	var m *queue.Message
	var err error
	switch {
	case p.message != nil:
		m = p.message
	case p.first.at != 0:
		m, err = l.firstDelivery(p)
	default:
		m, err = l.scheduled(p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.putBack(p)
		return nil, fmt.Errorf("lane %s: %w", l.partner, err)
	case l.closed:
		return nil, queue.ErrClosed
	case p.message == nil && p.first.at != 0:
		l.waiting--
	}
	if m == nil {
		l.release(p)
		return nil, nil
	}
	l.handed = max(l.handed, p.first.at)
	m.Handle = p
	p.state, p.message = held, nil
	l.held++
	l.touchLocked()
	return m, nil
}

// putBack undoes choose. It requires l.mu.
func (l *Lane) putBack(p *parcel) {
	if p.first.at != 0 {
		l.buffer = append([]first{p.first}, l.buffer...)
	} else {
		l.schedule.push(p.entry)
	}
	l.release(p)
}

// register makes p the one parcel of its order. Where another is out already, p
// is not needed: the other stands for the order, and is looked at again for
// whatever p brought.
func (l *Lane) register(p *parcel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	other := l.orders[p.order]
	if other == nil {
		l.orders[p.order] = p
		return true
	}
	if p.entry.at > max(other.later.at, other.carrier()) {
		other.later = p.entry
		if other.state == returned {
			l.release(other)
		}
	}
	return false
}
