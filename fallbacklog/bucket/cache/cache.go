// Package cache keeps copies of a bucket's objects in a directory, up to a number of
// bytes; those that were used longest ago go first.
//
//	<dir>/<sum>       a copy, named by its SHA-256
//	<dir>/<sum>.tmp   one that is being fetched
//	<dir>/lock        held by the one process that owns the directory
//
// A copy is given out only after it has been read through and found to have its sum:
// when it was fetched, and again by each process that finds it. One that has not is
// fetched anew. So nothing here needs to survive a crash, and nothing is synced.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"manna/fallbacklog/bucket"
	"manna/internal/disk"
)

// ErrInUse: all that the cache may hold is in use.
var ErrInUse = errors.New("the cache is full of files that are in use")

// Options configure a cache. Bucket and Dir are required.
type Options struct {
	Bucket bucket.Bucket
	Dir    string
	Disk   disk.Disk // that Dir is on; default disk.OS{}
	Bytes  int64     // how much it holds at most; default 8 GiB
}

// Cache keeps copies of objects. Its methods are safe for concurrent use.
type Cache struct {
	opts Options
	lock io.Closer

	mu     sync.Mutex // guards the next fields, and those of each copy
	copies map[bucket.Sum]*held
	bytes  int64 // of all copies, those being fetched too
	tick   uint64
}

// held is a copy.
type held struct {
	sum   bucket.Sum
	size  int64         // counted in Cache.bytes; 0 before there is room for it
	turn  chan struct{} // holds one: whoever takes it may fetch or check the file
	sound bool          // the file is there, and this process has read it through
	users int
	used  uint64 // tick of the last use
}

// Open takes a directory, with the copies that another process has left in it. It
// fails with disk.ErrLocked where another process owns it.
func Open(opts Options) (*Cache, error) {
	if opts.Bucket == nil || opts.Dir == "" {
		return nil, errors.New("a cache needs a bucket and a directory")
	}
	if opts.Disk == nil {
		opts.Disk = disk.OS{}
	}
	if opts.Bytes == 0 {
		opts.Bytes = 8 << 30
	}
	if err := opts.Disk.MkdirAll(opts.Dir); err != nil {
		return nil, err
	}
	lock, err := opts.Disk.Lock(filepath.Join(opts.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cache directory %s: %w", opts.Dir, err)
	}
	c := &Cache{opts: opts, lock: lock, copies: make(map[bucket.Sum]*held)}
	if err := c.find(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return c, nil
}

// find counts the copies that are there, and removes what was being fetched.
func (c *Cache) find() error {
	names, err := c.opts.Disk.List(c.opts.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(c.opts.Dir, name)
		var sum bucket.Sum
		switch {
		case sum.UnmarshalText([]byte(name)) == nil:
			info, err := c.opts.Disk.Stat(path)
			if err != nil {
				return err
			}
			h := c.copy(sum)
			h.size = info.Size()
			c.bytes += h.size
		case filepath.Ext(name) == ".tmp":
			if err := c.opts.Disk.Remove(path); err != nil {
				return err
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evict(0)
	return nil
}

// copy gives the copy with a sum, or begins one. Callers hold c.mu, or nobody else
// has the cache.
func (c *Cache) copy(sum bucket.Sum) *held {
	h := c.copies[sum]
	if h == nil {
		h = &held{sum: sum, turn: make(chan struct{}, 1)}
		h.turn <- struct{}{}
		c.copies[sum] = h
	}
	return h
}

// Copy is a copy that stays until it is released, open or not.
type Copy struct {
	cache *Cache
	held  *held
}

// Open opens the copy for reading.
func (c *Copy) Open() (disk.File, error) {
	return c.cache.opts.Disk.OpenRead(c.cache.path(c.held))
}

// Release lets the copy go. It is called once.
func (c *Copy) Release() { c.cache.release(c.held) }

// Hold keeps the copy of an object that has this size and sum, and fetches it where
// there is none. Errors: ErrInUse; bucket.ErrNotFound; whatever else the bucket and
// the disk say.
func (c *Cache) Hold(ctx context.Context, key string, size int64, sum bucket.Sum) (*Copy, error) {
	c.mu.Lock()
	h := c.copy(sum)
	h.users++
	c.tick++
	h.used = c.tick
	c.mu.Unlock()
	if err := c.mend(ctx, h, key, size); err != nil {
		c.release(h)
		return nil, err
	}
	return &Copy{c, h}, nil
}

// File is a copy that is open for reading, and stays until it is closed.
type File struct {
	disk.File
	close func() error
}

// Close lets the copy go.
func (f *File) Close() error { return f.close() }

// File is Hold of a copy that is to be read at once.
func (c *Cache) File(ctx context.Context, key string, size int64, sum bucket.Sum) (*File, error) {
	h, err := c.Hold(ctx, key, size, sum)
	if err != nil {
		return nil, err
	}
	f, err := h.Open()
	if err != nil {
		h.Release()
		return nil, err
	}
	close := sync.OnceValue(func() error {
		err := f.Close()
		h.Release()
		return err
	})
	return &File{f, close}, nil
}

// mend makes a copy sound.
func (c *Cache) mend(ctx context.Context, h *held, key string, size int64) error {
	select {
	case <-h.turn:
		defer func() { h.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !h.sound {
		if err := c.check(h); err != nil {
			return err
		}
	}
	if h.sound {
		return nil
	}
	if err := c.reserve(h, size); err != nil {
		return err
	}
	if err := c.fetch(ctx, h, key); err != nil {
		return err
	}
	h.sound = true
	return nil
}

func (c *Cache) path(h *held) string { return filepath.Join(c.opts.Dir, h.sum.String()) }

// check reads a file through that another process has left. One that is not what its
// name says goes.
func (c *Cache) check(h *held) error {
	f, err := c.opts.Disk.OpenRead(c.path(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		var sum bucket.Sum
		sum, _, err = bucket.ReadSum(io.NewSectionReader(f, 0, size))
		h.sound = err == nil && sum == h.sum
	}
	f.Close()
	if h.sound {
		return nil
	}
	return errors.Join(err, c.opts.Disk.Remove(c.path(h)))
}

// reserve makes room for a copy.
func (c *Cache) reserve(h *held, size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes -= h.size
	h.size = 0
	if !c.evict(size) {
		return fmt.Errorf("%w: %d bytes are wanted, %d of %d are in use in %s: let it hold more", ErrInUse, size, c.bytes, c.opts.Bytes, c.opts.Dir)
	}
	h.size = size
	c.bytes += size
	return nil
}

// evict removes copies that nobody uses until there is room for so many bytes more.
// Callers hold c.mu.
func (c *Cache) evict(room int64) bool {
	for c.bytes+room > c.opts.Bytes {
		var oldest *held
		for _, h := range c.copies {
			if h.users == 0 && (oldest == nil || h.used < oldest.used) {
				oldest = h
			}
		}
		if oldest == nil {
			return false
		}
		c.drop(oldest)
	}
	return true
}

// drop forgets a copy that nobody uses. Callers hold c.mu.
func (c *Cache) drop(h *held) {
	_ = c.opts.Disk.Remove(c.path(h)) // what stays is found, and counted, by the next process
	c.bytes -= h.size
	delete(c.copies, h.sum)
}

func (c *Cache) release(h *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.users--; h.users == 0 && !h.sound {
		c.drop(h)
	}
}

// fetches is how often an object is fetched that does not arrive as it should.
const fetches = 6

// fetch fetches an object, again where that fails for a reason that may pass.
func (c *Cache) fetch(ctx context.Context, h *held, key string) error {
	pause := bucket.Backoff{First: 200 * time.Millisecond, Most: 5 * time.Second}
	for n := 1; ; n++ {
		err := c.receive(ctx, h, key)
		if err == nil || n == fetches || ctx.Err() != nil || bucket.Lasting(err) || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, disk.ErrFull) {
			return err
		}
		if pause.Pause(ctx) != nil {
			return err
		}
	}
}

func (c *Cache) receive(ctx context.Context, h *held, key string) error {
	r, err := c.opts.Bucket.Get(ctx, key, 0, h.size+1)
	if err != nil {
		return err
	}
	defer r.Close()
	temp := c.path(h) + ".tmp"
	if err := c.opts.Disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := c.opts.Disk.Create(temp)
	if err != nil {
		return err
	}
	sum, size, err := bucket.ReadSum(io.TeeReader(r, io.NewOffsetWriter(f, 0)))
	if err == nil && (size != h.size || sum != h.sum) {
		err = fmt.Errorf("%s in %s is damaged: it has %d bytes with the SHA-256 %v, and should have %d with %v: restore it in the bucket", key, c.opts.Bucket, size, sum, h.size, h.sum)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, c.opts.Disk.Remove(temp))
	}
	return c.opts.Disk.Rename(temp, c.path(h))
}

// Close lets the directory go. Copies stay in it for the next process.
func (c *Cache) Close() error { return c.lock.Close() }
