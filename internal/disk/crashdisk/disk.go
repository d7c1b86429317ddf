package crashdisk

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"manna/internal/disk"
)

// boundless is the capacity of a new disk in bytes.
const boundless = math.MaxInt64

// Disk implements disk.Disk in memory. It is safe for concurrent use; every
// operation happens in one step. "/" and "." are there from the start.
type Disk struct {
	mu       sync.Mutex
	chance   *rand.Rand
	names    names
	orphans  map[*node]bool // open, but without a name: their room is still taken
	locks    map[string]bool
	capacity int64
	ops      map[Op]int
	faults   []fault
	onSync   func(path string)
}

var _ disk.Disk = (*Disk)(nil)

// New gives an empty disk of boundless capacity.
func New(seed uint64) *Disk {
	return newDisk(rand.New(rand.NewPCG(seed, 0)), boundless)
}

func newDisk(chance *rand.Rand, capacity int64) *Disk {
	return &Disk{
		chance:   chance,
		names:    names{live: map[string]*node{}, durable: map[string]*node{}},
		orphans:  map[*node]bool{},
		locks:    map[string]bool{},
		capacity: capacity,
		ops:      map[Op]int{},
	}
}

// Create implements disk.Disk.
func (d *Disk) Create(path string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Clean(path)
	var n *node
	err := d.try(OpCreate, path, func() (err error) {
		n, err = d.create(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.handle(path, n, true), nil
}

func (d *Disk) create(path string) (*node, error) {
	if d.names.taken(path) {
		return nil, pathError("create", path, syscall.EEXIST)
	}
	if err := d.names.noDir(filepath.Dir(path)); err != nil {
		return nil, pathError("create", path, err)
	}
	n := newNode()
	d.names.change(nameOp{add: path, node: n})
	return n, nil
}

// Open implements disk.Disk.
func (d *Disk) Open(path string) (disk.File, error) { return d.open(path, true) }

// OpenRead implements disk.Disk.
func (d *Disk) OpenRead(path string) (disk.File, error) { return d.open(path, false) }

func (d *Disk) open(path string, writable bool) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Clean(path)
	var n *node
	err := d.try(OpOpen, path, func() (err error) {
		n, err = d.names.file("open", path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.handle(path, n, writable), nil
}

func (d *Disk) handle(path string, n *node, writable bool) *file {
	n.open++
	return &file{d: d, n: n, path: path, writable: writable}
}

// Rename implements disk.Disk. It moves files only.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	return d.try(OpRename, from, func() error {
		n, replaced, err := d.names.renaming(from, to)
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		if from == to {
			return nil
		}
		d.names.change(nameOp{remove: from, add: to, node: n})
		d.unlinked(replaced)
		return nil
	})
}

// Remove implements disk.Disk.
func (d *Disk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Clean(path)
	return d.try(OpRemove, path, func() error {
		n := d.names.live[path]
		switch {
		case n == nil:
			return pathError("remove", path, d.names.missing(path))
		case n.dir && len(d.names.list(path)) > 0:
			return pathError("remove", path, syscall.ENOTEMPTY)
		}
		d.names.change(nameOp{remove: path, node: n})
		d.unlinked(n)
		return nil
	})
}

// unlinked keeps account of a node that has lost its name.
func (d *Disk) unlinked(n *node) {
	if n != nil && n.open > 0 {
		d.orphans[n] = true
	}
}

// List implements disk.Disk.
func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir = filepath.Clean(dir)
	if err := d.names.wantDir("open", dir); err != nil {
		return nil, err
	}
	return d.names.list(dir), nil
}

// Stat implements disk.Disk.
func (d *Disk) Stat(path string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clean := filepath.Clean(path)
	if n := d.names.live[clean]; n != nil {
		return info{name: filepath.Base(clean), size: n.size, dir: n.dir, changed: n.changed}, nil
	}
	if isRoot(clean) {
		return info{name: clean, dir: true}, nil
	}
	return nil, pathError("stat", path, d.names.missing(clean))
}

// MkdirAll implements disk.Disk. It counts one OpMkdir for each directory that it
// makes and one OpSyncDir for each parent, as the real disk's work is.
func (d *Disk) MkdirAll(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mkdirAll(filepath.Clean(dir))
}

func (d *Disk) mkdirAll(dir string) error {
	parent := filepath.Dir(dir)
	if d.names.taken(dir) {
		if err := d.names.wantDir("mkdir", dir); err != nil {
			return err
		}
		return d.syncDir(parent)
	}
	if err := d.mkdirAll(parent); err != nil {
		return err
	}
	err := d.try(OpMkdir, dir, func() error {
		d.names.change(nameOp{add: dir, node: &node{dir: true, changed: time.Now()}})
		return nil
	})
	if err != nil {
		return err
	}
	return d.syncDir(parent)
}

// SyncDir implements disk.Disk.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncDir(filepath.Clean(dir))
}

func (d *Disk) syncDir(dir string) error {
	if err := d.names.wantDir("sync", dir); err != nil {
		return err
	}
	return d.trySync(OpSyncDir, dir, func() { d.names.sync(dir) }, func() { d.names.drop(dir) })
}

// Lock implements disk.Disk.
func (d *Disk) Lock(path string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Clean(path)
	err := d.try(OpLock, path, func() error {
		if d.locks[path] {
			return pathError("lock", path, fmt.Errorf("%w (process %d)", disk.ErrLocked, os.Getpid()))
		}
		if !d.names.taken(path) {
			if _, err := d.create(path); err != nil {
				return err
			}
		} else if _, err := d.names.file("open", path); err != nil {
			return err
		}
		d.locks[path] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lock{d: d, path: path}, nil
}

type lock struct {
	d      *Disk
	path   string
	closed bool
}

func (l *lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return pathError("close", l.path, fs.ErrClosed)
	}
	l.closed = true
	delete(l.d.locks, l.path)
	return nil
}

// Free implements disk.Disk.
func (d *Disk) Free(dir string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.names.wantDir("statfs", filepath.Clean(dir)); err != nil {
		return 0, err
	}
	return d.free(), nil
}

func (d *Disk) free() int64 { return max(0, d.capacity-d.used()) }

func (d *Disk) used() int64 {
	var sectors int64
	for _, n := range d.names.live {
		sectors += n.room
	}
	for n := range d.orphans {
		sectors += n.room
	}
	return sectors * sectorSize
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// info is what Stat gives.
type info struct {
	name    string
	size    int64
	dir     bool
	changed time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.changed }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
