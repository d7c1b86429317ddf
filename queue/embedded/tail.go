package embedded

import (
	"context"
	"errors"
	"time"

	"manna/fallbacklog"
)

// eventKinds are the records about single orders.
func eventKinds() []fallbacklog.Kind {
	return []fallbacklog.Kind{fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Deferred,
		fallbacklog.Unknown, fallbacklog.Parked, fallbacklog.Reissued}
}

// followPause is how long the tail waits after the log could not be read.
const followPause = time.Second

// follow brings the lanes what is appended to the log. It ends when the queue is
// closed, when the log has ended, or where it is damaged: a lane that misses what
// the log says must not look idle. A read that fails otherwise is tried again.
func (q *Queue) follow(ctx context.Context) {
	defer q.work.Done()
	r := q.tailReader()
	defer func() { r.Close() }()
	for ctx.Err() == nil {
		rec, err := r.TryNext()
		if err == nil {
			q.apply(rec, r.Position())
			continue
		}
		if errors.Is(err, fallbacklog.ErrTail) {
			q.advance(r.Position())
			err = q.log.Wait(ctx, r.Position())
		}
		var damage *fallbacklog.CorruptError
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.As(err, &damage), errors.Is(err, fallbacklog.ErrClosed), errors.Is(err, fallbacklog.ErrPoisoned):
			q.opts.Logger.Error("the lanes cannot follow the log any more", "at", r.Position(), "err", err)
			q.end(err)
			return
		default:
			q.opts.Logger.Error("the lanes cannot follow the log; trying again", "at", r.Position(), "err", err)
			select {
			case <-time.After(followPause):
			case <-ctx.Done():
			}
			// The reader may have moved past what it could not read.
			r.Close()
			r = q.tailReader()
		}
	}
}

func (q *Queue) tailReader() *fallbacklog.Reader {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.log.Reader(q.seen, append(eventKinds(), fallbacklog.Claimed)...)
}

// apply tells the lanes of a record; next is the position after it.
func (q *Queue) apply(rec *fallbacklog.Record, next fallbacklog.Position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rec.Claim != nil {
		for i, o := range rec.Claim.Orders {
			told := false // by an earlier order of the claim
			for _, before := range rec.Claim.Orders[:i] {
				told = told || before.Partner == o.Partner
			}
			if l := q.lanes[o.Partner]; l != nil && !told {
				l.offer(rec)
			}
		}
	} else if l := q.lanes[rec.Event.Partner]; l != nil {
		l.note(rec)
	}
	q.mark = mark{at: rec.At, time: rec.Time.UnixNano()}
	q.moveTo(next)
}

func (q *Queue) advance(next fallbacklog.Position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.moveTo(next)
}

// moveTo requires q.mu.
func (q *Queue) moveTo(next fallbacklog.Position) {
	if next == q.seen {
		return
	}
	if next.Segment() != q.seen.Segment() {
		// A lane in which nothing happens must not make a restart read every
		// segment that the others have filled.
		for _, l := range q.lanes {
			l.touch()
		}
	}
	q.seen = next
	if q.moved != nil {
		close(q.moved)
		q.moved = nil
	}
}

// reach waits until the lanes know everything before p.
func (q *Queue) reach(ctx context.Context, p fallbacklog.Position) error {
	for {
		q.mu.Lock()
		if q.seen >= p {
			q.mu.Unlock()
			return nil
		}
		if q.moved == nil {
			q.moved = make(chan struct{})
		}
		moved := q.moved
		q.mu.Unlock()
		select {
		case <-moved:
		case <-q.failed:
			return q.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end makes everything that waits for the tail fail with err, unless it has ended
// before.
func (q *Queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		close(q.failed)
	}
}

func (q *Queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}
