package crashdisk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"manna/internal/disk"
)

// file is a handle. It stays usable when its name is gone.
type file struct {
	d        *Disk
	n        *node
	path     string
	writable bool
	closed   bool // guarded by d.mu
}

// usable fails where the handle is closed or, for a change, read-only.
func (f *file) usable(op string, change bool) error {
	switch {
	case f.closed:
		return pathError(op, f.path, fs.ErrClosed)
	case change && !f.writable:
		return pathError(op, f.path, syscall.EBADF)
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.path, errors.New("negative offset"))
	}
	n := 0
	err := f.d.try(OpRead, f.path, func() error {
		n = f.n.readAt(p, off)
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt says that nothing was written where a fault was injected, also when
// that fault's effect took place.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.path, errors.New("negative offset"))
	}
	hit := f.d.count(OpWrite)
	switch {
	case hit == nil:
		return f.write(p, off)
	case hit.short:
		n, _ := f.write(p[:min(len(p), hit.bytes)], off)
		return n, pathError("write", f.path, hit.err)
	case hit.applied:
		f.write(p, off) // its own failure would change nothing
	}
	return 0, pathError("write", f.path, hit.err)
}

func (f *file) write(p []byte, off int64) (int, error) {
	n := f.n.writeAt(p, off, f.d.free()/sectorSize)
	if n < len(p) {
		return n, full("write", f.path)
	}
	return n, nil
}

func (f *file) Sync() error {
	hook, err := f.sync()
	if hook != nil {
		hook(f.path)
	}
	return err
}

func (f *file) sync() (hook func(path string), err error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("sync", false); err != nil {
		return nil, err
	}
	return f.d.onSync, f.d.trySync(OpSync, f.path, f.n.sync, f.n.giveUp)
}

func (f *file) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("allocate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("allocate", f.path, syscall.EINVAL)
	}
	return f.d.try(OpAllocate, f.path, func() error {
		if f.n.wants(size) > f.d.free()/sectorSize {
			return full("allocate", f.path)
		}
		f.n.allocate(size)
		return nil
	})
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.path, syscall.EINVAL)
	}
	return f.d.try(OpTruncate, f.path, func() error {
		f.n.truncate(size)
		return nil
	})
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("stat", false); err != nil {
		return 0, err
	}
	return f.n.size, nil
}

// Close makes nothing durable.
func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("close", false); err != nil {
		return err
	}
	f.closed = true
	f.n.open--
	if f.n.open == 0 {
		delete(f.d.orphans, f.n)
	}
	return nil
}

func full(op, path string) error {
	return pathError(op, path, fmt.Errorf("%w (%w)", disk.ErrFull, syscall.ENOSPC))
}
