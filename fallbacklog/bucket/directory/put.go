package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"manna/fallbacklog/bucket"
	"manna/internal/disk"
)

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, c bucket.Content) error {
	return b.store(ctx, key, nil, c)
}

// Replace implements bucket.Bucket.
func (b *Bucket) Replace(ctx context.Context, key string, old bucket.Sum, c bucket.Content) error {
	return b.store(ctx, key, &old, c)
}

// store stores an object where what is there has the sum old, or where nothing is
// there and old is nil.
func (b *Bucket) store(ctx context.Context, key string, old *bucket.Sum, c bucket.Content) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	path := b.path(key)
	dir := filepath.Dir(path)
	turn, err := b.prepare(dir)
	if err != nil {
		return b.explain(err)
	}
	turn.Lock()
	defer turn.Unlock()
	lock, err := b.disk.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("%s/%s: somebody else is writing there: %w", b, key, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		b.forget(dir)
	}
	if err != nil {
		return b.explain(err)
	}
	defer lock.Close()
	there, err := b.decide(ctx, key, old, c)
	if err != nil {
		return err
	}
	if there {
		// Whoever gave it its name may have been killed before the name was durable.
		return b.explain(b.disk.SyncDir(dir))
	}
	return b.explain(b.write(ctx, path, c))
}

// decide tells whether the content is there already, and fails where something is
// there that may not be replaced.
func (b *Bucket) decide(ctx context.Context, key string, old *bucket.Sum, c bucket.Content) (there bool, err error) {
	r, err := b.Get(ctx, key, 0, -1)
	switch {
	case errors.Is(err, bucket.ErrNotFound) && old == nil:
		return false, nil
	case errors.Is(err, bucket.ErrNotFound):
		return false, fmt.Errorf("%s/%s: %w: what is to be replaced is gone", b, key, bucket.ErrConflict)
	case err != nil:
		return false, err
	}
	defer r.Close()
	sum, _, err := bucket.ReadSum(r)
	switch {
	case err != nil:
		return false, b.explain(err)
	case sum == c.Sum:
		return true, nil
	case old == nil || sum != *old:
		return false, fmt.Errorf("%s/%s: %w", b, key, bucket.ErrConflict)
	}
	return false, nil
}

// prepare makes an object's directory, and gives what its writers in this process
// take turns on. What a process that was killed has made or renamed in it may not
// be durable yet.
func (b *Bucket) prepare(dir string) (*sync.Mutex, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if turn, ok := b.known[dir]; ok {
		return turn, nil
	}
	if err := errors.Join(b.disk.MkdirAll(dir), b.disk.SyncDir(dir)); err != nil {
		return nil, err
	}
	b.known[dir] = new(sync.Mutex)
	return b.known[dir], nil
}

// forget makes the next writer make the directory anew: somebody has taken it away.
func (b *Bucket) forget(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, dir)
}

// write writes a file under its passing name, reads it back and gives it its name.
func (b *Bucket) write(ctx context.Context, path string, c bucket.Content) error {
	temp := path + ".tmp"
	if err := b.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := b.disk.Create(temp)
	if err != nil {
		return err
	}
	if err = errors.Join(fill(ctx, f, c), f.Close()); err != nil {
		return errors.Join(err, b.disk.Remove(temp))
	}
	// Commit point: the object is there once its name is durable.
	return errors.Join(b.disk.Rename(temp, path), b.disk.SyncDir(filepath.Dir(path)))
}

func fill(ctx context.Context, f disk.File, c bucket.Content) error {
	chunk := make([]byte, min(c.Size, 1<<20))
	for at := int64(0); at < c.Size; at += int64(len(chunk)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk = chunk[:min(int64(len(chunk)), c.Size-at)]
		if n, err := c.ReadAt(chunk, at); n < len(chunk) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the content ends at %d, not at %d", at+int64(n), c.Size)
			}
			return err
		}
		if _, err := f.WriteAt(chunk, at); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	sum, _, err := bucket.ReadSum(io.NewSectionReader(f, 0, c.Size))
	if err == nil && sum != c.Sum {
		err = errors.New("the copy does not read back as it should")
	}
	return err
}
