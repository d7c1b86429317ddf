package fallbacklog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"manna/internal/disk"
)

// keptScratch bounds the encoding buffers that are kept for the next append.
const keptScratch = 64 << 10

// Log is one node's fallback log, open for appending and reading. Its methods
// are safe for concurrent use.
type Log struct {
	opts    Options
	disk    disk.Disk
	lock    io.Closer
	metrics *metrics
	most    int64 // mostBytes

	mu      sync.Mutex // guards the next fields
	room    *sync.Cond // the pending batch was taken, or the log has ended
	pending *batch
	spare   *batch // room for the next one; nil where there is none
	err     error  // why nothing more is appended

	kick    chan struct{}   // there is a pending batch
	rolls   chan chan error // requests to seal the active segment
	closing chan struct{}
	failed  chan struct{} // closed when the log is poisoned
	sealed  chan sealing
	writing sync.WaitGroup // the writer
	behind  sync.WaitGroup // indexing and background verification

	segments segments
	files    files // of segments
	indexes  files

	durable  atomic.Uint64 // Position up to which everything may be read
	tailMu   sync.Mutex
	tail     chan struct{} // closed and replaced when durable moves
	first    Position
	found    Position  // the Tip that Open found
	frames   sync.Pool // *[]byte
	closeOne sync.Once
}

// Open takes the directory, recovers what is in it and starts the log. It fails
// with disk.ErrLocked where another process owns the directory and with a
// *CorruptError where the log does not read back what was written.
func Open(opts Options) (*Log, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := opts.Disk.MkdirAll(opts.Dir); err != nil {
		return nil, err
	}
	lock, err := opts.Disk.Lock(filepath.Join(opts.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", opts.Dir, err)
	}
	l := &Log{
		opts: opts, disk: opts.Disk, lock: lock, most: mostBytes,
		kick: make(chan struct{}, 1), rolls: make(chan chan error), closing: make(chan struct{}),
		failed: make(chan struct{}), sealed: make(chan sealing, 2), tail: make(chan struct{}),
	}
	l.room = sync.NewCond(&l.mu)
	l.frames.New = func() any { b := make([]byte, 0, 1<<10); return &b }
	l.files.most, l.indexes.most = maxFiles, opts.IndexFiles
	if err := l.start(); err != nil {
		l.segments.close()
		if l.metrics != nil {
			l.metrics.unregister()
		}
		lock.Close()
		if errors.Is(err, disk.ErrFull) {
			err = fmt.Errorf("the log in %s cannot be opened, for that takes up to %d bytes: make room and start again, nothing is lost: %w", opts.Dir, opts.SegmentBytes+allocateStep, err)
		}
		return nil, err
	}
	if err := l.noteLosses(context.Background()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Log) start() error {
	dir := l.opts.Dir
	if err := clean(l.disk, dir); err != nil {
		return err
	}
	segs, err := recoverSegments(l.disk, dir, l.opts.Node, l.opts.Reached, l.opts.Logger)
	if err != nil {
		return err
	}
	unread, err := l.verifyNewest(segs)
	if err != nil {
		return err
	}
	if err := l.loadIndexes(segs, len(unread)); err != nil {
		return err
	}
	number, chain := uint32(1), [32]byte{}
	if len(segs) > 0 {
		last := &segs[len(segs)-1]
		number, chain = last.number+1, last.link
		l.found = At(last.number, uint32(last.size-footerFrame))
		l.first = At(segs[0].number, headerSize)
	} else {
		l.first = At(number, headerSize)
		l.found = l.first
	}
	if l.metrics, err = newMetrics(l); err != nil {
		return err
	}
	w, err := l.startSegment(number, chain, 0)
	if err != nil {
		return err
	}
	if err := w.publish(); err != nil {
		w.close()
		return err
	}
	l.begin(w)
	l.advance(At(number, headerSize))
	l.writing.Add(1)
	go l.run(w)
	l.behind.Add(2)
	go l.index()
	go l.verifyRest(unread)
	return nil
}

// begin makes a new active segment known to look-ups and readers.
func (l *Log) begin(w *writer) {
	l.segments.add(&segment{sealedSegment: w.seg, file: l.file(w.seg.number), live: w.live})
}

// file is segment n, to be read.
func (l *Log) file(n uint32) *file {
	return l.files.file(0, func() (disk.File, error) { return l.disk.OpenRead(segmentPath(l.opts.Dir, n)) })
}

// Append writes the records in one commit, all or none, and returns when they
// are durable. It sets each record's At, and its Time where that is zero. A ctx
// that has ended prevents the append; one that ends later does not, for the
// records may be on their way to the disk. Errors: disk.ErrFull (nothing
// happened, try again later), ErrTooLarge, ErrPoisoned, ErrClosed.
func (l *Log) Append(ctx context.Context, recs ...*Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(recs) == 0 {
		return nil
	}
	scratch := l.frames.Get().(*[]byte)
	defer l.frames.Put(scratch)
	frames := (*scratch)[:0]
	var room [8]uint32
	offsets := room[:0]
	for _, rec := range recs {
		if rec.Time.IsZero() {
			rec.Time = l.opts.Now().UTC()
		}
		offsets = append(offsets, uint32(len(frames)))
		var err error
		if frames, err = appendFrame(frames, rec); err != nil {
			return err
		}
	}
	if cap(frames) <= keptScratch {
		*scratch = frames
	}
	if len(frames) > maxBatch {
		return ErrTooLarge
	}
	b, first, err := l.join(frames, offsets, recs)
	if err != nil {
		return err
	}
	if first {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
	<-b.done
	return b.err
}

// join puts frames into the batch that is committed next; first tells that they
// are the first in it.
func (l *Log) join(frames []byte, offsets []uint32, recs []*Record) (b *batch, first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && l.pending != nil && len(l.pending.buf)+len(frames) > maxBatch+batchFrame {
		l.room.Wait()
	}
	if l.err != nil {
		return nil, false, l.err
	}
	if first = l.pending == nil; first {
		l.pending, l.spare = newBatch(l.spare), nil
	}
	l.pending.add(frames, offsets, recs)
	return l.pending, first, nil
}

// take takes the pending batch.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.pending
	l.pending = nil
	l.room.Broadcast()
	return b
}

// reuse keeps the room of a batch that is over, and reports whether none waits.
func (l *Log) reuse(over *batch) (idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = over
	return l.pending == nil
}

// joined is the number of records that wait for the next commit.
func (l *Log) joined() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return 0
	}
	return len(l.pending.recs)
}

func (l *Log) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending != nil
}

// poisonedBy reports whether err ends the log, and ends it. A full disk does not,
// nor does slow indexing.
func (l *Log) poisonedBy(err error) bool {
	if err == nil || errors.Is(err, disk.ErrFull) || errors.Is(err, errBehind) {
		return false
	}
	l.opts.Logger.Error("fallback log is poisoned; this process must end", "err", err)
	l.stop(fmt.Errorf("%w: %w", ErrPoisoned, err))
	return true
}

// stop makes every further append fail with err. Appends that wait fail too where
// the log is poisoned.
func (l *Log) stop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, ErrPoisoned) {
		return
	}
	poisoned := errors.Is(err, ErrPoisoned)
	if l.err == nil || poisoned {
		l.err = err
	}
	if poisoned {
		close(l.failed)
		if b := l.pending; b != nil {
			l.pending = nil
			b.finish(err)
		}
	}
	l.room.Broadcast()
}

// Err says why nothing more is appended: nil, ErrClosed or ErrPoisoned.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Failed is closed when the log is poisoned: the process must end then.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Node is the name of the node whose log this is.
func (l *Log) Node() string { return l.opts.Node }

// First is the position of the oldest record that is still there.
func (l *Log) First() Position { return l.first }

// End is the position up to which records are durable and may be read.
func (l *Log) End() Position { return Position(l.durable.Load()) }

// Tip is the position behind the last record. Unlike End it does not move when a log
// is opened again, and so begins another segment: a log of which everything durable is
// still there has a Tip that is nowhere short of any that it ever had.
func (l *Log) Tip() Position {
	if end := l.End(); end.Offset() > headerSize {
		return end
	}
	return l.found
}

// Found is the Tip that the log had when it was opened, before anything was appended.
func (l *Log) Found() Position { return l.found }

// Free is the room that is left on the log's disk, in bytes.
func (l *Log) Free() (int64, error) { return l.disk.Free(l.opts.Dir) }

// advance publishes everything before p to readers.
func (l *Log) advance(p Position) {
	l.durable.Store(uint64(p))
	l.tailMu.Lock()
	close(l.tail)
	l.tail = make(chan struct{})
	l.tailMu.Unlock()
}

// Wait blocks until something after p is durable. It fails when ctx ends, and
// with ErrClosed or ErrPoisoned when nothing more can come.
func (l *Log) Wait(ctx context.Context, p Position) error {
	for {
		l.tailMu.Lock()
		tail := l.tail
		l.tailMu.Unlock()
		if l.End() > p {
			return nil
		}
		select {
		case <-tail:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closing:
			return ErrClosed
		case <-l.failed:
			return l.Err()
		}
	}
}

// Seal seals the active segment if it has records, and returns the indexes of
// all sealed segments, oldest first: everything that was appended before the
// call.
func (l *Log) Seal(ctx context.Context) ([]*Index, error) {
	for {
		err := l.seal(ctx)
		if err != nil && !errors.Is(err, errBehind) {
			return nil, err
		}
		indexes, waited := l.segments.indexes(ctx, l.closing)
		if err == nil || waited != nil {
			return indexes, waited
		}
	}
}

func (l *Log) seal(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.rolls <- done:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	case <-l.failed:
		return l.Err()
	}
}

// Indexes are the indexes of the segments that have been sealed and indexed so
// far, oldest first. Right after Open that is everything in the log.
func (l *Log) Indexes() []*Index {
	var indexes []*Index
	for _, s := range l.segments.sealed() {
		indexes = append(indexes, s.index)
	}
	return indexes
}

// Close commits what waits, seals the active segment and lets the directory go.
// Appends after it fail with ErrClosed.
func (l *Log) Close() error {
	l.closeOne.Do(func() {
		l.stop(ErrClosed)
		close(l.closing)
		l.writing.Wait()
		close(l.sealed)
		l.behind.Wait()
		l.segments.close()
		l.metrics.unregister()
		l.lock.Close()
	})
	if err := l.Err(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// Lookup gives the rows of an order's, a claim's or a NamedID's id, in the order
// in which they were appended. The numbers of names in them mean nothing here.
func (l *Log) Lookup(id [16]byte) ([]Row, error) {
	end := l.End()
	var rows []Row
	for _, s := range l.segments.list() {
		var err error
		if rows, err = s.find(rows, id, end); err != nil {
			return nil, l.orClosed(err)
		}
	}
	return rows, nil
}

// Last gives the last row of an id, looking at the newest segments first; ok is
// false where there is none.
func (l *Log) Last(id [16]byte) (row Row, ok bool, err error) {
	end := l.End()
	for _, s := range slices.Backward(l.segments.list()) {
		rows, err := s.find(nil, id, end)
		if err != nil {
			return Row{}, false, l.orClosed(err)
		}
		if len(rows) > 0 {
			return rows[len(rows)-1], true, nil
		}
	}
	return Row{}, false, nil
}

// orClosed gives ErrClosed where err only says that Close has closed a file.
func (l *Log) orClosed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return ErrClosed
	}
	return err
}
