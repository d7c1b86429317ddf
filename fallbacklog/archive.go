package fallbacklog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/internal/disk"
)

// ArchiverOptions configure an Archiver. Log and Dir are required.
type ArchiverOptions struct {
	Log *Log
	// Dir is the archive's directory. Each node's segments go into a directory of
	// its name.
	Dir     string
	Disk    disk.Disk // that Dir is on; default disk.OS{}
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Archiver copies sealed segments and their indexes to an archive, oldest first.
// A copy has its name only when it is durable and its hash has been checked. The
// archiver removes nothing: not from the log, and not from the archive.
//
// How far it is the archive itself says, so that it needs no state of its own and
// may be killed any time.
type Archiver struct {
	opts     ArchiverOptions
	dir      string
	archived atomic.Uint32

	segments, bytes, failures prometheus.Counter
	behind                    prometheus.GaugeFunc
}

// Pauses after a failure: the first, and the longest.
const (
	archiveRetry    = time.Second
	archiveRetryMax = time.Minute
)

// NewArchiver makes an archiver. It touches nothing before Run.
func NewArchiver(opts ArchiverOptions) (*Archiver, error) {
	node := opts.Log.Node()
	if opts.Dir == "" || node != filepath.Base(node) || node == "." || node == ".." {
		return nil, fmt.Errorf("an archive needs a directory, and a node whose name %q can name one in it", node)
	}
	if opts.Disk == nil {
		opts.Disk = disk.OS{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	a := &Archiver{
		opts: opts, dir: filepath.Join(opts.Dir, node),
		segments: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_segments_total", Help: "Segments archived."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_bytes_total", Help: "Bytes archived."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_failures_total", Help: "Failed attempts to archive a segment."}),
	}
	a.behind = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_archive_behind_segments", Help: "Sealed segments that are not archived yet: what a lost disk would cost."}, func() float64 {
		return float64(a.Behind())
	})
	return a, nil
}

// Behind is how many sealed segments are not archived yet.
func (a *Archiver) Behind() int {
	n := 0
	for _, s := range a.opts.Log.segments.sealed() {
		if s.number > a.archived.Load() {
			n++
		}
	}
	return n
}

// Run archives segments as they are sealed, until ctx ends or the log is closed; it
// returns nil then. What was sealed last is archived by the next Run. It fails only where its metrics cannot be registered: everything else it says,
// counts and tries again.
func (a *Archiver) Run(ctx context.Context) error {
	for _, c := range []prometheus.Collector{a.segments, a.bytes, a.failures, a.behind} {
		if err := a.opts.Metrics.Register(c); err != nil {
			return err
		}
		defer a.opts.Metrics.Unregister(c)
	}
	pause := archiveRetry
	for ctx.Err() == nil {
		more := a.opts.Log.segments.moreIndexed()
		err := a.catchUp(ctx)
		if err == nil {
			pause = archiveRetry
			select {
			case <-more:
			case <-ctx.Done():
			case <-a.opts.Log.closing:
				return nil
			}
			continue
		}
		if ctx.Err() != nil {
			break
		}
		a.failures.Inc()
		a.opts.Logger.Error("cannot archive a segment; trying again", "err", err, "in", pause, "behind", a.Behind())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-a.opts.Log.closing:
			return nil
		}
		pause = min(2*pause, archiveRetryMax)
	}
	return nil
}

// catchUp archives every sealed segment that is not archived yet.
func (a *Archiver) catchUp(ctx context.Context) error {
	// What one that was killed has renamed may not be durable yet.
	if err := errors.Join(a.opts.Disk.MkdirAll(a.dir), a.opts.Disk.SyncDir(a.dir)); err != nil {
		return err
	}
	for _, s := range a.opts.Log.segments.sealed() {
		if s.number <= a.archived.Load() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.archive(s); err != nil {
			return fmt.Errorf("archive segment %d: %w", s.number, err)
		}
		a.archived.Store(s.number)
	}
	return nil
}

func (a *Archiver) archive(s *segment) error {
	there, err := a.holds(s)
	if err != nil || there {
		return err
	}
	log := a.opts.Log
	if err := s.index.check(); err != nil {
		return err
	}
	// The index goes first: a segment in the archive has its index.
	err = a.copy(indexPath(log.opts.Dir, s.number), indexPath(a.dir, s.number), nil)
	if err == nil {
		err = a.copy(segmentPath(log.opts.Dir, s.number), segmentPath(a.dir, s.number), &s.sealedSegment)
	}
	if err == nil {
		a.segments.Inc()
	}
	return err
}

// holds tells whether the archive has the segment. Where the log's own has been
// repaired since, what the archive has is the better one and stays.
func (a *Archiver) holds(s *segment) (bool, error) {
	path := segmentPath(a.dir, s.number)
	f, err := a.opts.Disk.OpenRead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	there, sealed, err := readSealed(f, path, s.number)
	switch {
	case err != nil:
		return false, err
	case !sealed || there.hash != s.hash && there.hash != s.link || there.node != s.node:
		return false, fmt.Errorf("%s is another segment than %s: find out whose it is, and move it away", path, segmentPath(a.opts.Log.opts.Dir, s.number))
	}
	return true, nil
}

// copy copies a file under a passing name, reads the copy back and gives it its
// name. Of a segment, it checks first that it is what was sealed.
func (a *Archiver) copy(from, to string, seg *sealedSegment) error {
	src, err := a.opts.Log.disk.OpenRead(from)
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return err
	}
	d := a.opts.Disk
	temp := to + ".tmp"
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dst, err := d.Create(temp)
	if err != nil {
		return err
	}
	err = a.fill(dst, src, size, seg)
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	a.bytes.Add(float64(size))
	// Commit point: the copy is in the archive once its name is durable.
	return errors.Join(d.Rename(temp, to), d.SyncDir(a.dir))
}

func (a *Archiver) fill(dst, src disk.File, size int64, seg *sealedSegment) error {
	sum, content := sha256.New(), sha256.New()
	err := eachChunk(src, size, func(at int64, chunk []byte) error {
		sum.Write(chunk)
		if seg != nil {
			end := max(0, min(int64(len(chunk)), seg.size-footerFrame-at))
			content.Write(chunk[:end])
		}
		_, err := dst.WriteAt(chunk, at)
		return err
	})
	if err != nil {
		return err
	}
	if seg != nil && (size != seg.size || !bytes.Equal(content.Sum(nil), seg.hash[:])) {
		return &CorruptError{Path: segmentPath(a.opts.Log.opts.Dir, seg.number), Why: "the content is not what was sealed"}
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	return sameAs(dst, size, sum)
}

// sameAs reads a copy back and compares its hash.
func sameAs(f disk.File, size int64, want hash.Hash) error {
	got := sha256.New()
	err := eachChunk(f, size, func(_ int64, chunk []byte) error {
		got.Write(chunk)
		return nil
	})
	if err == nil && !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		err = errors.New("the copy does not read back as it was written")
	}
	return err
}

// eachChunk reads a file through, a bounded part at a time.
func eachChunk(f disk.File, size int64, do func(at int64, chunk []byte) error) error {
	chunk := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; at += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), size-at)]
		n, err := readFull(f, chunk, at)
		if err == nil && n < len(chunk) {
			err = fmt.Errorf("the file ends at %d, not at %d", at+int64(n), size)
		}
		if err == nil {
			err = do(at, chunk)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
