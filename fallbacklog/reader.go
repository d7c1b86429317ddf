package fallbacklog

import (
	"context"
	"errors"
	"fmt"
	"io"
)

const readChunk = 128 << 10

// Reader follows the log. It is used by one goroutine at a time and needs to be
// closed.
type Reader struct {
	log    *Log
	next   Position // of the frame that is read next
	placed bool     // a frame has been read, so that next is a frame's beginning
	want   uint32   // bit set of kinds
	held   *file    // of the segment that is being read; nil where there is none
	src    io.ReaderAt
	seed   uint32 // of that segment's checksums
	buf    []byte // bytes of the segment from next on
	room   []byte
	claim  string // the wire format of the claim in the record that was returned last
}

// Reader makes a reader that begins with the first record at or after from and
// returns records of the given kinds, or of all kinds where none is given. from
// is a position that Append, a Row or a reader gave.
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

// Claim is the claim of the record that was returned last in the format of AppendClaim,
// as the log has it; empty where that was no `claimed` record.
func (r *Reader) Claim() string { return r.claim }

// Next returns the next record, waiting for one to become durable. Errors: ctx's,
// ErrClosed or ErrPoisoned at the end of a log that has ended, *CorruptError.
func (r *Reader) Next(ctx context.Context) (*Record, error) {
	for {
		rec, err := r.try(ctx)
		if !errors.Is(err, ErrTail) {
			return rec, err
		}
		if err := r.log.Wait(ctx, r.next); err != nil {
			return nil, err
		}
	}
}

// TryNext returns the next record, or ErrTail where none is durable yet.
func (r *Reader) TryNext() (*Record, error) { return r.try(context.Background()) }

func (r *Reader) try(ctx context.Context) (*Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		if r.next >= r.log.End() {
			return nil, ErrTail
		}
		kind, payload, at, err := r.frame(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case kind == kindFooter:
			r.release()
			r.next = At(at.Segment()+1, headerSize)
		case kind == kindBatch || kind == kindGap || r.want&(1<<(kind&31)) == 0:
		default:
			rec, claim, err := decodeRecord(Kind(kind), payload)
			if err != nil {
				return nil, r.corrupt(at, err.Error())
			}
			rec.At, r.claim = at, claim
			return rec, nil
		}
	}
}

// frame reads one frame and moves on.
func (r *Reader) frame(ctx context.Context) (kind byte, payload []byte, at Position, err error) {
	if r.held == nil {
		if err := r.hold(); err != nil {
			return 0, nil, 0, err
		}
	}
	for {
		var why string
		if kind, payload, why = frameAt(r.buf, r.seed); why == "" {
			break
		}
		more, err := r.fill(ctx)
		if err != nil {
			return 0, nil, 0, err
		}
		if more {
			continue
		}
		if r.placed {
			return 0, nil, 0, r.corrupt(r.next, why)
		}
		if err := r.place(why); err != nil {
			return 0, nil, 0, err
		}
	}
	r.placed = true
	at = r.next
	size := frameHeader + len(payload)
	r.buf = r.buf[size:]
	r.next += Position(size)
	return kind, payload, at, nil
}

// hold opens the segment that is read next.
func (r *Reader) hold() (err error) {
	seg, ok := r.log.segments.get(r.next.Segment())
	if !ok {
		return fmt.Errorf("position %v: %w", r.next, ErrNotFound)
	}
	if r.src, err = seg.file.acquire(); err != nil {
		return err
	}
	r.held, r.seed = seg.file, seg.seed
	return nil
}

// fill reads on behind what is in the buffer, as far as the log is durable. more
// is false where there is nothing to add, or already more than a frame.
func (r *Reader) fill(ctx context.Context) (more bool, err error) {
	if len(r.buf) >= frameHeader+MaxRecord {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
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
	got, err := readFull(r.src, r.room[had:to], int64(from))
	r.buf = r.room[:had+got]
	return got > 0, err
}

// place moves a reader whose first position is no frame's beginning. Where Repair
// has laid one gap over several frames a position that was good before may be
// inside it: then the reader goes on behind the gap.
func (r *Reader) place(why string) error {
	n := r.next.Segment()
	b, err := readWhole(r.log.disk, segmentPath(r.log.opts.Dir, n))
	if err != nil {
		return err
	}
	for at := int64(headerSize); at < int64(r.next.Offset()) && at < int64(len(b)); {
		kind, payload, broken := frameAt(b[at:], r.seed)
		if broken != "" {
			break
		}
		at += frameHeader + int64(len(payload))
		if kind == kindGap && at > int64(r.next.Offset()) {
			r.next, r.buf, r.placed = At(n, uint32(at)), nil, true
			return nil
		}
	}
	return r.corrupt(r.next, why)
}

func (r *Reader) corrupt(at Position, why string) error {
	return &CorruptError{Path: segmentPath(r.log.opts.Dir, at.Segment()), Offset: int64(at.Offset()), Why: why}
}

func (r *Reader) release() {
	if r.held != nil {
		r.held.release()
		r.held, r.src = nil, nil
	}
	r.buf = nil
}

// Close lets the reader's file go.
func (r *Reader) Close() { r.release() }

// Read returns the record at a position that Append, a Row or a reader gave.
// ErrNotFound where no record is there: not yet, not any more, or lost to damage
// that Repair has laid a gap over.
func (l *Log) Read(at Position) (*Record, error) {
	if at >= l.End() || at < l.first {
		return nil, fmt.Errorf("position %v: %w", at, ErrNotFound)
	}
	r := Reader{log: l, next: at, want: ^uint32(0), room: make([]byte, 1<<10)}
	defer r.Close()
	rec, err := r.TryNext()
	if errors.Is(err, ErrTail) || err == nil && rec.At != at {
		return nil, fmt.Errorf("position %v: %w", at, ErrNotFound)
	}
	return rec, err
}
