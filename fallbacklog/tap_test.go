package fallbacklog_test

import (
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"manna/internal/disk"
)

// tap is a disk that tells of each operation that changes it, before and after it.
type tap struct {
	disk.Disk
	told func(op, path string)
	// unsynced takes the fsync of commits out: of a file only the first Sync, which
	// is that of its header, does anything; the others say that all is well.
	unsynced bool
	ops      atomic.Int64
}

func (t *tap) tell(op, path string) {
	t.ops.Add(1)
	if t.told != nil {
		t.told(op, filepath.Base(path))
	}
}

func (t *tap) Create(path string) (disk.File, error) {
	t.tell("create", path)
	f, err := t.Disk.Create(path)
	return t.file(f, path), err
}

func (t *tap) Open(path string) (disk.File, error) {
	f, err := t.Disk.Open(path)
	return t.file(f, path), err
}

func (t *tap) file(f disk.File, path string) disk.File {
	if f == nil {
		return nil
	}
	return &tapFile{File: f, tap: t, path: path}
}

func (t *tap) Rename(from, to string) error {
	t.tell("rename", from)
	defer t.tell("renamed", from)
	return t.Disk.Rename(from, to)
}

func (t *tap) Remove(path string) error {
	if _, err := t.Disk.Stat(path); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	t.tell("remove", path)
	return t.Disk.Remove(path)
}

func (t *tap) SyncDir(dir string) error {
	t.tell("syncdir", dir)
	return t.Disk.SyncDir(dir)
}

type tapFile struct {
	disk.File
	tap   *tap
	path  string
	first sync.Once
}

func (f *tapFile) WriteAt(p []byte, off int64) (int, error) {
	f.tap.tell("write", f.path)
	return f.File.WriteAt(p, off)
}

func (f *tapFile) Sync() error {
	f.tap.tell("sync", f.path)
	defer f.tap.tell("synced", f.path)
	if !f.tap.unsynced {
		return f.File.Sync()
	}
	var err error
	f.first.Do(func() { err = f.File.Sync() })
	return err
}

func (f *tapFile) Allocate(size int64) error {
	f.tap.tell("allocate", f.path)
	return f.File.Allocate(size)
}

func (f *tapFile) Truncate(size int64) error {
	f.tap.tell("truncate", f.path)
	return f.File.Truncate(size)
}
