// Package directory keeps a bucket in a directory: an object is a file, a folder a
// directory.
//
//	<root>/<key>        an object, readable by its owner alone
//	<root>/<key>.tmp    one that is being written; it counts for nothing
//	<root>/…/.lock      held while a name in that directory is given away
//
// A file is written under its passing name, synced and read back. Commit point: the
// rename, and the sync of its directory. Who writes while another process writes
// into the same directory gets an error, and can try again.
package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"manna/fallbacklog/bucket"
	"manna/internal/disk"
)

// Bucket is a bucket in a directory.
type Bucket struct {
	disk disk.Disk
	root string

	mu    sync.Mutex             // guards known
	known map[string]*sync.Mutex // directories whose names are durable, held by who writes there
}

var _ bucket.Bucket = (*Bucket)(nil)

// lockName is the file that is locked while a name in its directory is given away.
const lockName = ".lock"

// New makes a bucket in a directory. It touches nothing: the directory is made when
// something is to be written.
func New(d disk.Disk, root string) *Bucket {
	return &Bucket{disk: d, root: filepath.Clean(root), known: make(map[string]*sync.Mutex)}
}

func (b *Bucket) String() string { return "file://" + filepath.ToSlash(b.root) }

// Close implements bucket.Bucket.
func (b *Bucket) Close() error { return nil }

// Check implements bucket.Bucket. A directory that is not there is not made: its
// nearest parent has the probe.
func (b *Bucket) Check(context.Context) error {
	_, err := disk.Probe(b.disk, b.root)
	switch {
	case err == nil, errors.Is(err, fs.ErrPermission), errors.Is(err, disk.ErrFull):
		return b.explain(err)
	}
	return fmt.Errorf("%s: name a directory that can be written, archive: {url: file:///…}: %w", b, err)
}

func (b *Bucket) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: let this process's user write to the directory: %w", b, bucket.ErrDenied, err)
	case errors.Is(err, disk.ErrFull):
		return fmt.Errorf("%s: make room: %w", b, err)
	}
	return fmt.Errorf("%s: %w", b, err)
}

func (b *Bucket) path(key string) string { return filepath.Join(b.root, filepath.FromSlash(key)) }

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if _, err := b.Stat(ctx, key); err != nil {
		return nil, err
	}
	f, err := b.disk.OpenRead(b.path(key))
	if err != nil {
		return nil, b.missing(key, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	rest := max(0, size-offset)
	if length >= 0 {
		rest = min(rest, length)
	}
	return &part{SectionReader: io.NewSectionReader(f, offset, rest), ctx: ctx, Closer: f}, nil
}

// part reads a part of a file until its context ends.
type part struct {
	*io.SectionReader
	io.Closer
	ctx context.Context
}

func (p *part) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.SectionReader.Read(b)
	if at, _ := p.Seek(0, io.SeekCurrent); errors.Is(err, io.EOF) && n == 0 && at < p.Size() {
		err = io.ErrUnexpectedEOF // somebody has cut the file
	}
	return n, err
}

// WriteTo hides that of the SectionReader, which does not ask the context.
func (p *part) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{p}, make([]byte, 256<<10))
}

// Stat implements bucket.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Info, error) {
	if err := errors.Join(bucket.CheckKey(key), ctx.Err()); err != nil {
		return bucket.Info{}, err
	}
	info, err := b.disk.Stat(b.path(key))
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return bucket.Info{}, b.missing(key, err)
	}
	return bucket.Info{Key: key, Size: info.Size(), Changed: info.ModTime()}, nil
}

func (b *Bucket) missing(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s/%s: %w", b, key, bucket.ErrNotFound)
	}
	return b.explain(err)
}

// List implements bucket.Bucket.
func (b *Bucket) List(ctx context.Context, folder string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		names, err := b.names(ctx, folder)
		if err != nil {
			yield(bucket.Info{}, err)
			return
		}
		for _, name := range names {
			info, err := b.disk.Stat(b.path(folder + name))
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone since
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield(bucket.Info{}, b.explain(err))
				return
			}
			found := bucket.Info{Key: folder + name, Size: info.Size(), Changed: info.ModTime()}
			if info.IsDir() {
				found = bucket.Info{Key: folder + name + "/"}
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}

func (b *Bucket) names(ctx context.Context, folder string) ([]string, error) {
	if err := errors.Join(bucket.CheckFolder(folder), ctx.Err()); err != nil {
		return nil, err
	}
	names, err := b.disk.List(filepath.Join(b.root, filepath.FromSlash(strings.TrimSuffix(folder, "/"))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, b.explain(err)
	}
	ours := names[:0]
	for _, name := range names {
		if bucket.Listed(name) {
			ours = append(ours, name)
		}
	}
	return ours, nil
}
