package embedded

import (
	"time"

	"manna/fallbacklog"
)

// entry is a message that waits for its due time: everything else about it is in
// the log.
type entry struct {
	due int64                // Unix nanoseconds
	at  fallbacklog.Position // of the deferred, unknown or reissued record
}

func (e entry) dueAt() int64 { return e.due }

// entryOf makes the entry of a deferred, unknown or reissued record.
func entryOf(rec *fallbacklog.Record, now time.Time) entry {
	due := rec.Event.Due
	if rec.Kind == fallbacklog.Reissued || due.IsZero() {
		// Due since it was written; a clock that was ahead then does not hold it up.
		due = rec.Time
		if due.After(now) {
			due = now
		}
	}
	return entry{due: due.UnixNano(), at: rec.At}
}

// dueHeap is a binary heap with the earliest due time on top.
type dueHeap[T interface{ dueAt() int64 }] []T

func (h *dueHeap[T]) push(x T) {
	s := append(*h, x)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if s[up].dueAt() <= x.dueAt() {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = x
	*h = s
}

func (h *dueHeap[T]) pop() T {
	s := *h
	top, last := s[0], s[len(s)-1]
	var none T
	s[len(s)-1] = none
	s = s[:len(s)-1]
	if len(s) > 0 {
		i := 0
		for {
			down := 2*i + 1
			if down >= len(s) {
				break
			}
			if down+1 < len(s) && s[down+1].dueAt() < s[down].dueAt() {
				down++
			}
			if last.dueAt() <= s[down].dueAt() {
				break
			}
			s[i] = s[down]
			i = down
		}
		s[i] = last
	}
	*h = s
	return top
}
