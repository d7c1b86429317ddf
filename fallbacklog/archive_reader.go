package fallbacklog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/cache"
	"manna/internal/disk"
)

// ArchiveOptions configure an Archive. Bucket and Cache are required.
type ArchiveOptions struct {
	Bucket bucket.Bucket // stays the caller's
	Cache  string        // directory of this process's own for copies of what is read
	// CacheBytes is how much it holds at most; default 8 GiB. The indexes of the logs
	// that are open at the same time have to fit.
	CacheBytes int64
	// IndexFiles is how many indexes of all logs are held open at most, those that were
	// used last; default 256.
	IndexFiles int
	Disk       disk.Disk // that Cache is on; default disk.OS{}
}

// Archive reads the logs that nodes have archived, on any machine. Its methods are
// safe for concurrent use.
type Archive struct {
	bucket  bucket.Bucket
	cache   *cache.Cache
	indexes files // of all logs
}

// OpenArchive takes the directory of the cache. It fails with disk.ErrLocked where
// another process has it.
func OpenArchive(opts ArchiveOptions) (*Archive, error) {
	if opts.IndexFiles == 0 {
		opts.IndexFiles = maxIndexFiles
	}
	c, err := cache.Open(cache.Options{Bucket: opts.Bucket, Dir: opts.Cache, Bytes: opts.CacheBytes, Disk: opts.Disk})
	if err != nil {
		return nil, err
	}
	return &Archive{bucket: opts.Bucket, cache: c, indexes: files{most: opts.IndexFiles}}, nil
}

// Close lets the cache go. Logs have to be closed before.
func (a *Archive) Close() error { return a.cache.Close() }

// ArchivedNode is a node that has a folder in an archive.
type ArchivedNode struct {
	Node     string
	Manifest *Manifest
	// Err says why there is no manifest: the node's log cannot be read then. It is
	// bucket.ErrNotFound where the node has begun to archive and not listed anything.
	Err error
}

// Nodes gives all nodes with their manifests as they are now. It fails only where the
// bucket cannot be asked: damage to one manifest is told in its ArchivedNode.
func (a *Archive) Nodes(ctx context.Context) ([]ArchivedNode, error) {
	var nodes []ArchivedNode
	for info, err := range a.bucket.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		name, folder := strings.CutSuffix(info.Key, "/")
		if !folder {
			continue
		}
		node := ArchivedNode{Node: name}
		node.Manifest, _, node.Err = readManifest(ctx, a.bucket, name)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// Open opens a node's log as its manifest has it now. It needs to be closed.
func (a *Archive) Open(ctx context.Context, node string) (*ArchivedLog, error) {
	m, _, err := readManifest(ctx, a.bucket, node)
	if err != nil {
		return nil, err
	}
	return a.OpenAs(m), nil
}

// OpenAs opens a node's log as a manifest has it that Nodes gave. It needs to be closed.
func (a *Archive) OpenAs(m *Manifest) *ArchivedLog {
	return &ArchivedLog{archive: a, manifest: m, reads: make(map[uint32]int)}
}

// ArchivedLog is a node's log as far as it has been archived, for reading. It does
// not change while it is open. Its methods are safe for concurrent use.
type ArchivedLog struct {
	archive  *Archive
	manifest *Manifest

	mu      sync.Mutex
	indexes []*Index       // of the first segments
	copies  []*cache.Copy  // which the indexes read
	reads   map[uint32]int // records read of a segment
}

// Node is the name of the node whose log this is.
func (l *ArchivedLog) Node() string { return l.manifest.Node }

// AsOf is the moment through which the log has arrived; see Manifest.
func (l *ArchivedLog) AsOf() time.Time { return l.manifest.AsOf }

// Manifest is what the log was opened with. It is not to be changed.
func (l *ArchivedLog) Manifest() *Manifest { return l.manifest }

// End is the position behind the last record.
func (l *ArchivedLog) End() Position {
	return At(firstSegment+uint32(len(l.manifest.Segments)), headerSize)
}

// Tip is the position behind the last record; 0 where nothing is archived.
func (l *ArchivedLog) Tip() Position {
	if len(l.manifest.Segments) == 0 {
		return 0
	}
	last := &l.manifest.Segments[len(l.manifest.Segments)-1]
	return At(last.Number, uint32(last.Size-footerFrame))
}

// Indexes fetches the indexes of all segments, oldest first. They are valid until
// Close. A damaged one is an error that names it.
func (l *ArchivedLog) Indexes(ctx context.Context) ([]*Index, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.indexes) < len(l.manifest.Segments) {
		x, c, err := l.index(ctx, &l.manifest.Segments[len(l.indexes)])
		if err != nil {
			return nil, err
		}
		l.indexes, l.copies = append(l.indexes, x), append(l.copies, c)
	}
	return l.indexes[:len(l.indexes):len(l.indexes)], nil
}

func (l *ArchivedLog) index(ctx context.Context, e *ArchivedSegment) (*Index, *cache.Copy, error) {
	key := indexKey(l.Node(), e.Number)
	c, err := l.archive.cache.Hold(ctx, key, e.Index.Size, e.Index.SHA256)
	if err != nil {
		return nil, nil, err
	}
	x, err := newIndex(key, l.archive.indexes.file(0, c.Open), e.Number)
	if err == nil {
		err = x.of(e.Hash)
	}
	if err != nil {
		c.Release()
		return nil, nil, err
	}
	return x, c, nil
}

// Losses are what repairs could not bring back of the segments as the archive has
// them, oldest first: one that was archived before it was damaged is whole here,
// whatever the log has lost since. Doubts is 0 where the `lost` record has not
// arrived.
func (l *ArchivedLog) Losses(ctx context.Context) ([]Loss, error) {
	var losses []Loss
	for i := range l.manifest.Segments {
		e := &l.manifest.Segments[i]
		if e.Lost == 0 {
			continue
		}
		loss := Loss{Segment: e.Number, Bytes: e.Lost, Until: l.manifest.AsOf, Repair: repairOf(e.Hash)}
		if i > 0 {
			loss.From = l.manifest.Segments[i-1].Last
		}
		losses = append(losses, loss)
	}
	if len(losses) == 0 {
		return nil, nil
	}
	indexes, err := l.Indexes(ctx)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, x := range indexes {
		if rows, err = x.find(rows, NamedID(Lost, "")); err != nil {
			return nil, err
		}
	}
	for _, row := range rows {
		rec, err := l.Read(ctx, row.At)
		if err != nil {
			return nil, err
		}
		for i := range losses {
			if rec.Loss != nil && rec.Loss.Segment == losses[i].Segment && rec.Loss.Repair == losses[i].Repair {
				losses[i] = *rec.Loss
			}
		}
	}
	return losses, nil
}

// Close lets the indexes go.
func (l *ArchivedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, x := range l.indexes {
		errs = append(errs, x.close())
	}
	for _, c := range l.copies {
		c.Release()
	}
	l.indexes, l.copies = nil, nil
	return errors.Join(errs...)
}

const (
	// fewReads is how many records are read of a segment before all of it is fetched.
	fewReads = 16
	// readAhead is how much is read for one record; most are smaller.
	readAhead = 4 << 10
)

// Read returns the record at a position that a Row gave. Errors are those of Log's
// Read, and the bucket's.
func (l *ArchivedLog) Read(ctx context.Context, at Position) (*Record, error) {
	n := at.Segment()
	absent := fmt.Errorf("position %v: %w", at, ErrNotFound)
	if n < firstSegment || n-firstSegment >= uint32(len(l.manifest.Segments)) {
		return nil, absent
	}
	e := &l.manifest.Segments[n-firstSegment]
	if at.Offset() < headerSize || int64(at.Offset()) >= e.Size-footerFrame {
		return nil, absent
	}
	f, err := l.segment(ctx, e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	kind, payload, why, err := readFrame(f, int64(at.Offset()), e)
	switch {
	case err != nil:
		return nil, err
	case why != "":
		return nil, l.misplaced(ctx, e, at, why)
	case !Kind(kind).valid():
		return nil, absent
	}
	rec, _, err := decodeRecord(Kind(kind), payload)
	if err != nil {
		return nil, &CorruptError{Path: segmentKey(l.Node(), n), Offset: int64(at.Offset()), Why: err.Error()}
	}
	rec.At = at
	return rec, nil
}

// readFrame reads the frame at an offset of a segment.
func readFrame(f io.ReaderAt, at int64, e *ArchivedSegment) (kind byte, payload []byte, why string, err error) {
	for want := int64(readAhead); ; {
		b := make([]byte, min(want, e.Size-at))
		got, err := readFull(f, b, at)
		if err != nil {
			return 0, nil, "", err
		}
		kind, payload, why = frameAt(b[:got], e.Seed)
		if why == "" || got < frameHeader || int64(len(b)) < want {
			return kind, payload, why, nil
		}
		length := frameHeader + int64(binary.LittleEndian.Uint32(b[4:]))
		if length <= want || length > frameHeader+MaxRecord {
			return kind, payload, why, nil
		}
		want = length
	}
}

// segment gives a segment to read records of: the bucket's object, or from some reads
// on a copy of it.
func (l *ArchivedLog) segment(ctx context.Context, e *ArchivedSegment) (segmentFile, error) {
	l.mu.Lock()
	l.reads[e.Number]++
	many := l.reads[e.Number] > fewReads
	l.mu.Unlock()
	key := segmentKey(l.Node(), e.Number)
	if many {
		f, err := l.archive.cache.File(ctx, key, e.Size, e.SHA256)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, cache.ErrInUse) {
			return nil, err
		}
	}
	return &object{ctx: ctx, bucket: l.archive.bucket, key: key, size: e.Size}, nil
}

// segmentFile is what records are read of.
type segmentFile interface {
	io.ReaderAt
	io.Closer
}

// misplaced says why no frame validates at a position. A position that was good
// before may be inside a gap that Repair has laid over several frames.
func (l *ArchivedLog) misplaced(ctx context.Context, e *ArchivedSegment, at Position, why string) error {
	key := segmentKey(l.Node(), e.Number)
	f, err := l.archive.cache.File(ctx, key, e.Size, e.SHA256)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, e.Size)
	if _, err := readFull(f, b, 0); err != nil {
		return err
	}
	for p := int64(headerSize); p < int64(at.Offset()) && p < e.Size; {
		kind, payload, broken := frameAt(b[p:], e.Seed)
		if broken != "" {
			break
		}
		p += frameHeader + int64(len(payload))
		if kind == kindGap && p > int64(at.Offset()) {
			return fmt.Errorf("position %v: %w", at, ErrNotFound)
		}
	}
	return &CorruptError{Path: key, Offset: int64(at.Offset()), Why: why}
}
