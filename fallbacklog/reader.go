package fallbacklog

import (
	"context"
	"errors"
	"fmt"
)

const readChunk = 128 << 10

// Reader follows the log. It is used by one goroutine at a time and needs to be
// closed.
type Reader struct {
	log  *Log
	next Position // of the frame that is read next
	want uint32   // bit set of kinds
	held *heldFile
	buf  []byte // bytes of the segment from next on
	room []byte
}

// Reader makes a reader that begins with the first record at or after from and
// returns records of the given kinds, or of all kinds where none is given.
func (l *Log) Reader(from Position, only ...Kind) *Reader {
	r := &Reader{log: l, next: max(from, l.first)}
	for _, k := range only {
		r.want |= 1 << k
	}
	if r.want == 0 {
		r.want = ^uint32(0)
	}
	return r
}

// Position is where the reader is: everything before it has been returned or was
// of no interest.
func (r *Reader) Position() Position { return r.next }

// Next returns the next record, waiting for one to become durable. Errors: ctx's,
// ErrClosed or ErrPoisoned at the end of a log that has ended, *CorruptError.
func (r *Reader) Next(ctx context.Context) (*Record, error) {
	for {
		rec, err := r.TryNext()
		if !errors.Is(err, ErrTail) {
			return rec, err
		}
		if err := r.log.Wait(ctx, r.next); err != nil {
			return nil, err
		}
	}
}

// TryNext returns the next record, or ErrTail where none is durable yet.
func (r *Reader) TryNext() (*Record, error) {
	for {
		if r.next >= r.log.End() {
			return nil, ErrTail
		}
		kind, payload, at, err := r.frame()
		if err != nil {
			return nil, err
		}
		switch {
		case kind == kindFooter:
			r.release()
			r.next = At(at.Segment()+1, headerSize)
		case kind == kindBatch || r.want&(1<<(kind&31)) == 0:
		default:
			rec, err := decodeRecord(Kind(kind), payload)
			if err != nil {
				return nil, r.corrupt(at, err.Error())
			}
			rec.At = at
			return rec, nil
		}
	}
}

// frame reads one frame and moves on.
func (r *Reader) frame() (kind byte, payload []byte, at Position, err error) {
	n := r.next.Segment()
	seg, ok := r.log.segments.get(n)
	if !ok {
		return 0, nil, 0, fmt.Errorf("position %v: %w", r.next, ErrNotFound)
	}
	if r.held == nil {
		if r.held, err = r.log.files.acquire(n); err != nil {
			return 0, nil, 0, err
		}
	}
	at = r.next
	for {
		var why string
		if kind, payload, why = frameAt(r.buf, seg.seed); why == "" {
			break
		}
		more, err := r.fill()
		if err != nil {
			return 0, nil, 0, err
		}
		if !more {
			return 0, nil, 0, r.corrupt(at, why)
		}
	}
	size := frameHeader + len(payload)
	r.buf = r.buf[size:]
	r.next += Position(size)
	return kind, payload, at, nil
}

// fill reads on behind what is in the buffer, as far as the log is durable. more
// is false where there is nothing to add, or already more than a frame.
func (r *Reader) fill() (more bool, err error) {
	if len(r.buf) >= frameHeader+MaxRecord {
		return false, nil
	}
	if r.room == nil {
		r.room = make([]byte, readChunk)
	}
	if len(r.buf) == len(r.room) {
		r.room = make([]byte, 2*len(r.room))
	}
	had := copy(r.room, r.buf)
	from := r.next.Offset() + uint32(had)
	to := len(r.room)
	if end := r.log.End(); end.Segment() == r.next.Segment() {
		to = min(to, had+int(end.Offset()-min(from, end.Offset())))
	}
	got, err := readFull(r.held, r.room[had:to], int64(from))
	r.buf = r.room[:had+got]
	return got > 0, err
}

func (r *Reader) corrupt(at Position, why string) error {
	return &CorruptError{Path: segmentPath(r.log.opts.Dir, at.Segment()), Offset: int64(at.Offset()), Why: why}
}

func (r *Reader) release() {
	if r.held != nil {
		r.log.files.release(r.held)
		r.held = nil
	}
	r.buf = nil
}

// Close lets the reader's file go.
func (r *Reader) Close() { r.release() }

// Read returns the record at a position that Append, a Row or a reader gave.
func (l *Log) Read(at Position) (*Record, error) {
	if at >= l.End() {
		return nil, fmt.Errorf("position %v: %w", at, ErrNotFound)
	}
	r := Reader{log: l, next: at, want: ^uint32(0), room: make([]byte, 1<<10)}
	defer r.Close()
	return r.TryNext()
}
