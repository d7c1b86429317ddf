package crashdisk

import (
	"maps"
	"slices"
)

// Op is a kind of operation that is counted and can be made to fail.
type Op string

const (
	OpCreate   Op = "create"
	OpOpen     Op = "open" // Open and OpenRead
	OpRead     Op = "read" // ReadAt
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpAllocate Op = "allocate"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir" // a directory made by MkdirAll
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"
)

// fault waits for its operation.
type fault struct {
	op      Op
	left    int // operations until it strikes
	err     error
	applied bool
	short   bool // a write of which bytes are written
	bytes   int
}

// FailAt makes the n-th op from now, counted from 1, fail with an error that
// wraps err. applied says whether its effect took place all the same. Faults are
// independent; each strikes once. Of two that fall on one operation the older is
// reported.
//
// A sync that fails without effect gives up what it should have made durable:
// see the package comment.
func (d *Disk) FailAt(op Op, n int, err error, applied bool) {
	d.inject(fault{op: op, left: n, err: err, applied: applied})
}

// ShortWriteAt makes the n-th WriteAt from now, counted from 1, write bytes bytes
// at most and fail with an error that wraps err.
func (d *Disk) ShortWriteAt(n, bytes int, err error) {
	d.inject(fault{op: OpWrite, left: n, err: err, short: true, bytes: bytes})
}

func (d *Disk) inject(f fault) {
	if f.left < 1 || f.err == nil {
		panic("crashdisk: a fault needs an operation to come and an error")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, f)
}

// Ops gives how often each operation was tried, failed ones included, since the
// disk was made.
func (d *Disk) Ops() map[Op]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.ops)
}

// OnSync has hook called with the path after each Sync of a file, failed ones
// included and before that Sync returns, without any lock held: it may use the
// disk, and take a Crash at each commit. The path is the one the file was opened
// by. nil ends it.
func (d *Disk) OnSync(hook func(path string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = hook
}

// SetCapacity bounds the bytes that all files may take, in whole sectors. It may
// fall below what is taken: then nothing more goes in until files go.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Used gives the bytes that all files take, in whole sectors.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

// count counts an operation and gives the fault that strikes it, or nil. Callers
// hold d.mu.
func (d *Disk) count(op Op) (hit *fault) {
	d.ops[op]++
	for i := range d.faults {
		f := &d.faults[i]
		if f.op != op {
			continue
		}
		if f.left--; f.left == 0 && hit == nil {
			struck := *f
			hit = &struck
		}
	}
	d.faults = slices.DeleteFunc(d.faults, func(f fault) bool { return f.left == 0 })
	return hit
}

// try does effect as one op on path, unless a fault says otherwise. Callers hold
// d.mu.
func (d *Disk) try(op Op, path string, effect func() error) error {
	hit := d.count(op)
	if hit == nil {
		return effect()
	}
	if hit.applied {
		if err := effect(); err != nil {
			return err
		}
	}
	return pathError(string(op), path, hit.err)
}

// trySync is try for an op that leaves its work given up where it fails. Callers
// hold d.mu.
func (d *Disk) trySync(op Op, path string, effect, giveUp func()) error {
	hit := d.count(op)
	if hit == nil {
		effect()
		return nil
	}
	if hit.applied {
		effect()
	} else {
		giveUp()
	}
	return pathError(string(op), path, hit.err)
}
