package crashdisk

import (
	"maps"
	"path/filepath"
	"slices"
	"syscall"
)

// names is the tree of names, flat: each path with its node. Every durable name
// was live once; pending holds, in order, the changes that lead from durable to
// live.
type names struct {
	live    map[string]*node
	durable map[string]*node
	pending []nameOp
}

// nameOp is one change of names: a creation adds, a removal removes, a rename
// does both.
type nameOp struct {
	remove, add string // paths; empty where there is none
	node        *node
	dropped     bool // a failed SyncDir has given it up
}

func (op nameOp) apply(to map[string]*node) {
	if op.remove != "" {
		delete(to, op.remove)
	}
	if op.add != "" {
		to[op.add] = op.node
	}
}

func (op nameOp) in(dir string) bool {
	return op.remove != "" && filepath.Dir(op.remove) == dir ||
		op.add != "" && filepath.Dir(op.add) == dir
}

func (op nameOp) touches(paths map[string]bool) bool {
	return op.remove != "" && paths[op.remove] || op.add != "" && paths[op.add]
}

func (op nameOp) mark(paths map[string]bool) {
	paths[op.remove], paths[op.add] = true, true // the empty path is never asked for
}

// change does op now; a SyncDir has still to make it durable.
func (t *names) change(op nameOp) {
	op.apply(t.live)
	t.pending = append(t.pending, op)
}

// sync makes the changes in dir durable.
func (t *names) sync(dir string) {
	t.settle(func(op nameOp) bool { return op.in(dir) && !op.dropped })
}

// settle makes the wanted changes durable, and with them the earlier changes to
// the same names wherever those are, so that durable never holds a later state of
// a name without the earlier one.
func (t *names) settle(wanted func(nameOp) bool) {
	var settled, left []nameOp
	paths := map[string]bool{}
	for _, op := range slices.Backward(t.pending) {
		if wanted(op) || op.touches(paths) {
			op.mark(paths)
			settled = append(settled, op)
		} else {
			left = append(left, op)
		}
	}
	for _, op := range slices.Backward(settled) {
		op.apply(t.durable)
	}
	slices.Reverse(left)
	t.pending = left
}

// drop gives the changes in dir up: no later sync makes them durable.
func (t *names) drop(dir string) {
	for i := range t.pending {
		if t.pending[i].in(dir) {
			t.pending[i].dropped = true
		}
	}
}

// afterPowerLoss gives the names that survive. kept is asked for each change that
// may.
func (t *names) afterPowerLoss(kept func() bool) map[string]*node {
	tree := maps.Clone(t.durable)
	lost := map[string]bool{}
	for _, op := range t.pending {
		if op.dropped || op.touches(lost) || !kept() {
			op.mark(lost)
			continue
		}
		op.apply(tree)
	}
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		if parent := filepath.Dir(path); !isRoot(parent) && (tree[parent] == nil || !tree[parent].dir) {
			delete(tree, path)
		}
	}
	return tree
}

// isRoot tells the directories that are there without having been made.
func isRoot(path string) bool { return path == "/" || path == "." }

func (t *names) taken(path string) bool { return isRoot(path) || t.live[path] != nil }

// noDir says why path is not a directory, or nil where it is one.
func (t *names) noDir(path string) error {
	switch n := t.live[path]; {
	case isRoot(path) || n != nil && n.dir:
		return nil
	case n != nil:
		return syscall.ENOTDIR
	}
	return t.missing(path)
}

// missing says why path, which has no node, has none: a file stands in the way,
// or there is nothing.
func (t *names) missing(path string) error {
	if t.noDir(filepath.Dir(path)) == syscall.ENOTDIR {
		return syscall.ENOTDIR
	}
	return syscall.ENOENT
}

// wantDir fails unless path is a directory.
func (t *names) wantDir(op, path string) error {
	if err := t.noDir(path); err != nil {
		return pathError(op, path, err)
	}
	return nil
}

// file gives the node of a file.
func (t *names) file(op, path string) (*node, error) {
	switch n := t.live[path]; {
	case isRoot(path) || n != nil && n.dir:
		return nil, pathError(op, path, syscall.EISDIR)
	case n == nil:
		return nil, pathError(op, path, t.missing(path))
	default:
		return n, nil
	}
}

// renaming gives the node that from names and the one that to names, if any, or
// why the rename cannot be: where several things are wrong, what the real disk
// says first.
func (t *names) renaming(from, to string) (n, replaced *node, err error) {
	n, replaced = t.live[from], t.live[to]
	switch toDir := isRoot(to) || replaced != nil && replaced.dir; {
	case isRoot(from) || n != nil && n.dir:
		return nil, nil, syscall.EISDIR
	case toDir && n != nil:
		return nil, nil, syscall.EEXIST
	case t.noDir(filepath.Dir(from)) != nil:
		return nil, nil, t.missing(from)
	case t.noDir(filepath.Dir(to)) != nil:
		return nil, nil, t.missing(to)
	case n == nil:
		return nil, nil, syscall.ENOENT
	}
	return n, replaced, nil
}

// list gives the names in dir, sorted.
func (t *names) list(dir string) []string {
	list := []string{}
	for path := range t.live {
		if filepath.Dir(path) == dir {
			list = append(list, filepath.Base(path))
		}
	}
	slices.Sort(list)
	return list
}
