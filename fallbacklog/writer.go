package fallbacklog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math/rand/v2"

	"manna/internal/disk"
)

// writer owns the active segment. Its methods are called by one goroutine.
type writer struct {
	log  *Log
	seg  sealedSegment // header, and the footer's figures so far
	live *live
	hash hash.Hash
	end  int64 // where the next batch goes
	room
}

// startSegment creates segment n under its passing name. rows is a guess at how
// many rows its index will have.
func (l *Log) startSegment(n uint32, chain [32]byte, rows int) (*writer, error) {
	path := segmentPath(l.opts.Dir, n) + ".next"
	// An attempt that failed may have left one behind.
	if err := l.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := l.disk.Create(path)
	if err != nil {
		return nil, err
	}
	w := &writer{log: l, live: newLive(n, rows), hash: sha256.New(), end: headerSize}
	w.room = room{file: f, step: min(allocateStep, l.opts.SegmentBytes), limit: l.opts.SegmentBytes}
	w.seg.header = header{number: n, seed: rand.Uint32(), created: l.opts.Now(), chain: chain, node: l.opts.Node}
	b := w.seg.header.encode()
	w.hash.Write(b)
	if err = w.reserve(0); err == nil {
		if _, err = f.WriteAt(b, 0); err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		return nil, errors.Join(err, w.close(), l.disk.Remove(path))
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
// reserved room, so that a full disk is met before anything is written.
func (w *writer) reserve(n int64) error { return w.want(w.end + n + batchFrame + footerFrame) }

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
		if errors.Is(err, disk.ErrFull) {
			// Part of it may be there, which counts for nothing without its head.
			if failed := w.confirm(); failed != nil {
				return errors.Join(notFull(err), failed)
			}
		}
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

// confirm writes an empty batch behind the last one, not synced: should the
// process be killed now, it tells damage in the last commit from a commit that
// was never finished. The next batch is written over it. Were it written behind,
// a power loss could keep that batch and lose what confirms nothing but itself.
func (w *writer) confirm() error {
	b := batchHead{offset: uint32(w.end)}.append(nil, w.seg.seed)
	_, err := w.file.WriteAt(b, w.end)
	return notFull(err)
}

// seal writes the footer, over the empty batch. The room for it has been reserved.
func (w *writer) seal() error {
	if err := w.collect(true); err != nil {
		return notFull(err)
	}
	w.seg.hash = w.sum()
	w.seg.link = w.seg.hash
	b := w.seg.footer.append(nil, w.seg.seed)
	w.seg.size = w.end + int64(len(b))
	if _, err := w.file.WriteAt(b, w.end); err != nil {
		return notFull(err)
	}
	if err := w.file.Truncate(w.seg.size); err != nil {
		return notFull(err)
	}
	return notFull(w.file.Sync())
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
