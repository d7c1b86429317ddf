package fallbacklog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"manna/internal/disk"
)

const (
	// maxBatch bounds the bytes that wait for the next commit; whoever would
	// exceed it waits for that commit to be taken.
	maxBatch = 4 << 20
	// allocateStep is how far ahead of its end the active segment is allocated.
	allocateStep = 4 << 20
)

// batch is what the next commit takes.
type batch struct {
	buf     []byte // room for the batch frame, then record frames without checksums
	recs    []*Record
	offsets []uint32 // of each record in buf
	done    chan struct{}
	err     error // set before done is closed
}

func newBatch() *batch {
	return &batch{buf: make([]byte, batchFrame, 16<<10), done: make(chan struct{})}
}

// writer owns the active segment. Its methods are called by one goroutine.
type writer struct {
	log       *Log
	file      disk.File
	seg       sealedSegment // header, and the footer's figures so far
	live      *live
	hash      hash.Hash
	end       int64 // where the next batch goes
	allocated int64
}

// startSegment creates segment n under its passing name.
func (l *Log) startSegment(n uint32, chain [32]byte) (*writer, error) {
	w := &writer{log: l, live: newLive(n), hash: sha256.New(), end: headerSize}
	w.seg.header = header{number: n, seed: rand.Uint32(), created: l.opts.Now(), chain: chain, node: l.opts.Node}
	path := segmentPath(l.opts.Dir, n) + ".next"
	f, err := l.disk.Create(path)
	if err != nil {
		return nil, err
	}
	w.file = f
	b := w.seg.header.encode()
	w.hash.Write(b)
	if err = w.reserve(allocateStep); err == nil {
		if _, err = f.WriteAt(b, 0); err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		f.Close()
		l.disk.Remove(path)
		return nil, err
	}
	return w, nil
}

// publish gives the segment its name. Nothing of it counts before.
func (w *writer) publish() error {
	d, dir := w.log.disk, w.log.opts.Dir
	path := segmentPath(dir, w.seg.number)
	// Commit point: the segment is part of the log from here on.
	return errors.Join(d.Rename(path+".next", path), d.SyncDir(dir))
}

// reserve makes sure that n bytes, an empty batch and the footer fit into
// allocated room, so that a full disk is met before anything is written.
func (w *writer) reserve(n int64) error {
	need := w.end + n + batchFrame + footerFrame
	if need <= w.allocated {
		return nil
	}
	if err := w.file.Allocate(need + allocateStep); err == nil {
		w.allocated = need + allocateStep
		return nil
	}
	// Close to a full disk the last bytes are still of use.
	if err := w.file.Allocate(need); err != nil {
		return err
	}
	w.allocated = need
	return nil
}

// commit writes a batch and syncs it. Where it fails with disk.ErrFull nothing
// has happened; any other error leaves the segment in an unknown state.
func (w *writer) commit(b *batch) error {
	if err := w.reserve(int64(len(b.buf))); err != nil {
		return err
	}
	start := uint32(w.end)
	for i, at := range b.offsets {
		next := uint32(len(b.buf))
		if i+1 < len(b.offsets) {
			next = b.offsets[i+1]
		}
		sealFrame(b.buf[at:next], w.seg.seed)
		b.recs[i].At = At(w.seg.number, start+at)
	}
	head := batchHead{offset: start, length: uint32(len(b.buf) - batchFrame), count: uint32(len(b.recs))}
	head.append(b.buf[:0], w.seg.seed)
	if _, err := w.file.WriteAt(b.buf, w.end); err != nil {
		return err
	}
	// Commit point: everything in the batch is durable when Sync returns nil.
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", notFull(err))
	}
	w.hash.Write(b.buf)
	w.end += int64(len(b.buf))
	for _, rec := range b.recs {
		w.seg.footer.add(rec)
	}
	w.live.add(b.recs...)
	return nil
}

// confirm writes an empty batch, not synced: should the process be killed now,
// it tells damage in the last commit from a commit that was never finished.
func (w *writer) confirm() error {
	b := batchHead{offset: uint32(w.end)}.append(nil, w.seg.seed)
	if w.end+int64(len(b))+footerFrame > w.allocated {
		return nil
	}
	if _, err := w.file.WriteAt(b, w.end); err != nil {
		return notFull(err)
	}
	w.hash.Write(b)
	w.end += int64(len(b))
	return nil
}

// seal writes the footer. The room for it has been reserved.
func (w *writer) seal(next *writer) error {
	w.hash.Sum(w.seg.hash[:0])
	b := w.seg.footer.append(nil, w.seg.seed)
	w.seg.size = w.end + int64(len(b))
	if _, err := w.file.WriteAt(b, w.end); err != nil {
		return notFull(err)
	}
	if err := w.file.Truncate(w.seg.size); err != nil {
		return notFull(err)
	}
	if err := w.file.Sync(); err != nil {
		return notFull(err)
	}
	if err := w.file.Close(); err != nil {
		return notFull(err)
	}
	if next == nil {
		return nil
	}
	return notFull(next.publish())
}

// sum is the hash that the footer would carry now: the next segment's chain.
func (w *writer) sum() (sum [32]byte) {
	w.hash.Sum(sum[:0])
	return sum
}

// notFull hides disk.ErrFull where bytes may already have been written: the
// caller must not take the error for "nothing has happened".
func notFull(err error) error {
	if errors.Is(err, disk.ErrFull) {
		return errors.New(err.Error())
	}
	return err
}

// appendFrame appends a record's frame without its checksum.
func appendFrame(b []byte, rec *Record) ([]byte, error) {
	start := len(b)
	b = beginFrame(b, byte(rec.Kind), 0)
	b, err := appendRecord(b, rec)
	if err != nil {
		return nil, err
	}
	n := len(b) - start - frameHeader
	if n > MaxRecord {
		return nil, ErrTooLarge
	}
	binary.LittleEndian.PutUint32(b[start+4:], uint32(n))
	return b, nil
}

// run is the log's one writing goroutine. It ends when the log is closed or
// poisoned.
func (l *Log) run(w *writer) {
	defer l.writing.Done()
	age := time.NewTimer(l.opts.SegmentAge)
	defer age.Stop()
	for {
		var roll chan error
		select {
		case <-l.kick:
		case <-age.C:
			roll = make(chan error, 1)
			age.Reset(l.opts.SegmentAge)
		case roll = <-l.rolls:
		case <-l.closing:
			l.end(w)
			return
		}
		if l.opts.Linger > 0 && roll == nil {
			time.Sleep(l.opts.Linger)
		}
		for roll != nil || l.waiting() {
			if roll != nil || w.end >= l.opts.SegmentBytes {
				next, err := l.roll(w)
				if err == nil && next != w {
					w = next
					age.Reset(l.opts.SegmentAge)
				}
				if roll != nil {
					roll <- err
					roll = nil
				}
				if l.poisonedBy(err) {
					w.file.Close()
					return
				}
				// A full disk only means that the segment grows on while there
				// is room in it.
			}
			if b := l.take(); b != nil {
				began := time.Now()
				err := w.commit(b)
				l.metrics.commit(b, time.Since(began), err)
				if l.poisonedBy(err) {
					b.err = l.Err()
					close(b.done)
					w.file.Close()
					return
				}
				if b.err = err; err == nil {
					l.advance(At(w.seg.number, uint32(w.end)))
				}
				close(b.done)
			}
		}
		if err := w.confirm(); l.poisonedBy(err) {
			w.file.Close()
			return
		}
	}
}

// roll seals the active segment and begins the next. A segment without records
// stays. On disk.ErrFull nothing has changed.
func (l *Log) roll(w *writer) (*writer, error) {
	if w.seg.records() == 0 {
		return w, nil
	}
	next, err := l.startSegment(w.seg.number+1, w.sum())
	if err != nil {
		return w, err
	}
	if err := w.seal(next); err != nil {
		next.file.Close()
		return w, fmt.Errorf("seal segment %d: %w", w.seg.number, err)
	}
	l.begin(next)
	l.sealed <- sealing{w.seg, w.live}
	return next, nil
}

// end seals what is there when the log is closed.
func (l *Log) end(w *writer) {
	if b := l.take(); b != nil {
		if b.err = w.commit(b); b.err == nil {
			l.advance(At(w.seg.number, uint32(w.end)))
		}
		l.poisonedBy(b.err)
		close(b.done)
	}
	switch {
	case l.Err() != nil && !errors.Is(l.Err(), ErrClosed):
		w.file.Close()
	case w.seg.records() == 0:
		// An empty segment is left as it is; the next Open removes it.
		w.file.Close()
	default:
		if err := w.seal(nil); l.poisonedBy(err) {
			return
		}
		l.sealed <- sealing{w.seg, w.live}
	}
}
