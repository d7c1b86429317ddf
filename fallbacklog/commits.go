package fallbacklog

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"manna/internal/disk"
)

// errBehind: as many sealed segments as may be held in memory wait for their
// index, so the active segment grows on.
var errBehind = errors.New("segments are sealed faster than they can be indexed")

// mostBytes is the size past which a segment that cannot be sealed takes nothing.
const mostBytes = MaxSegment + 32<<20

// run is the log's one writing goroutine. It ends when the log is closed or
// poisoned.
func (l *Log) run(w *writer) {
	defer l.writing.Done()
	age := time.NewTimer(l.opts.SegmentAge)
	defer age.Stop()
	for {
		var asked chan error
		old := false
		select {
		case <-l.kick:
			l.gather()
		case <-age.C:
			old = true
			age.Reset(l.opts.SegmentAge)
		case asked = <-l.rolls:
		case <-l.closing:
			l.end(w)
			return
		}
		var err error
		if old || asked != nil || w.end >= l.opts.SegmentBytes && l.waiting() {
			next, failed := l.roll(w)
			if next != w {
				w = next
				age.Reset(l.opts.SegmentAge)
			}
			if err = failed; l.poisonedBy(err) {
				err = l.Err()
			}
			if asked != nil {
				asked <- err
			}
		}
		if l.ended() || !l.commit(w, err) {
			w.close()
			return
		}
	}
}

// gather lets those who are about to append join the batch that waits: a sync
// costs the same for many records as for one. It only gives way to goroutines that
// can run, so an idle process waits for nobody, and at most Linger. A timer would
// not do: it is a millisecond late where nothing else keeps the process awake.
func (l *Log) gather() {
	began := time.Now()
	for joined := 0; time.Since(began) < l.opts.Linger; {
		before := joined
		if joined = l.joined(); joined == before {
			return
		}
		runtime.Gosched()
	}
}

// commit commits what waits and reports whether the log may go on. unsealed is why
// the segment could not be sealed, if it was to be: a full disk or slow indexing
// only mean that it grows on while there is room in it.
func (l *Log) commit(w *writer, unsealed error) bool {
	b := l.take()
	if b == nil {
		return true
	}
	if unsealed != nil && w.end >= l.most {
		b.finish(fmt.Errorf("%w: a segment of %d bytes takes no more: %w", disk.ErrFull, w.end, unsealed))
		return true
	}
	began := time.Now()
	err := w.commit(b)
	l.metrics.commit(b, time.Since(began), err)
	if l.poisonedBy(err) {
		b.finish(l.Err())
		return false
	}
	if err == nil {
		l.advance(At(w.seg.number, uint32(w.end)))
	}
	b.finish(err)
	if !l.reuse(b.over()) {
		return true // the next batch waits already
	}
	return !l.poisonedBy(w.confirm())
}

// roll seals the active segment and begins the next. A segment without records
// stays. On disk.ErrFull and errBehind nothing has changed.
func (l *Log) roll(w *writer) (*writer, error) {
	if w.seg.records() == 0 {
		return w, nil
	}
	if len(l.sealed) == cap(l.sealed) {
		return w, errBehind
	}
	next, err := l.startSegment(w.seg.number+1, w.sum(), w.live.count)
	if err != nil {
		return w, err
	}
	if err = w.seal(); err == nil {
		err = notFull(next.publish())
	}
	if err != nil {
		next.close()
		return w, fmt.Errorf("seal segment %d: %w", w.seg.number, err)
	}
	l.begin(next)
	l.sealed <- sealing{w.seg, w.live}
	_ = w.close() // everything in it is durable
	return next, nil
}

// end commits and seals what is there when the log is closed.
func (l *Log) end(w *writer) {
	defer w.close()
	if l.ended() || !l.commit(w, nil) || w.seg.records() == 0 {
		// An empty segment is left as it is; the next Open removes it.
		return
	}
	if !l.poisonedBy(w.seal()) {
		l.sealed <- sealing{w.seg, w.live}
	}
}

// ended reports whether the log is poisoned.
func (l *Log) ended() bool { return errors.Is(l.Err(), ErrPoisoned) }
