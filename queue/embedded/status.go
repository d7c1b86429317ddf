package embedded

import (
	"context"
	"time"

	"manna/queue"
)

// Status implements queue.Lane. The watermarks are whole milliseconds, rounded
// down as the times in index rows are, and cover everything that the log held
// when Status was called. A reissued order's due time is the time of its record.
func (l *Lane) Status(ctx context.Context) (queue.Status, error) {
	asOf := l.queue.opts.Now()
	if err := l.queue.reach(ctx, l.queue.log.End()); err != nil {
		return queue.Status{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return queue.Status{}, queue.ErrClosed
	}
	oldest, oldestDue := l.blocks.oldest(), none
	for i := range l.buffer {
		oldest = min(oldest, l.buffer[i].claimed)
	}
	if len(l.schedule) > 0 {
		oldestDue = l.schedule[0].due
	}
	for p := range l.out {
		if p.first.at != 0 {
			oldest = min(oldest, p.first.claimed)
		}
		if p.entry.at != 0 {
			oldestDue = min(oldestDue, p.entry.due)
		}
		if p.later.at != 0 {
			oldestDue = min(oldestDue, p.later.due)
		}
	}
	s := queue.Status{AsOf: milliseconds(asOf.UnixMilli())}
	s.Backlog, s.Deferred, s.Held = l.countsLocked()
	if oldest != none {
		s.Oldest = milliseconds(oldest)
		s.OldestSeen = s.Oldest
	}
	if oldestDue != none {
		s.OldestDue = milliseconds(time.Unix(0, oldestDue).UnixMilli())
	}
	return s, nil
}

func milliseconds(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func (l *Lane) counts() (backlog, deferred, held int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.countsLocked()
}

func (l *Lane) countsLocked() (backlog, deferred, held int64) {
	deferred = int64(len(l.schedule))
	for p := range l.out {
		switch {
		case p.state == looking && p.entry.at != 0, p.state == returned:
			deferred++
		}
	}
	return l.waiting, deferred, l.held
}
