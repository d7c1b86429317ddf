package crashdisk

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash gives the disk as it may be found after a power loss now: what was
// synced, and of everything else each part with the probability keep; 0 loses
// all of it and 1 loses nothing. What survives is durable on the new disk.
// Repeated calls draw anew.
func (d *Disk) Crash(keep float64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := func() bool { return d.chance.Float64() < keep }
	tree := d.names.afterPowerLoss(kept)
	after := newDisk(d.split(), d.capacity)
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		after.names.live[path] = tree[path].afterPowerLoss(kept)
	}
	after.names.durable = maps.Clone(after.names.live)
	return after
}

// Kill gives the disk as it is found after a SIGKILL of the process: everything
// written is there, and what was not synced still waits for a sync.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk(d.split(), d.capacity)
	clones := map[*node]*node{}
	clone := func(n *node) *node {
		if clones[n] == nil {
			clones[n] = n.clone()
		}
		return clones[n]
	}
	for path, n := range d.names.live {
		after.names.live[path] = clone(n)
	}
	for path, n := range d.names.durable {
		after.names.durable[path] = clone(n)
	}
	for _, op := range d.names.pending {
		op.node = clone(op.node)
		after.names.pending = append(after.names.pending, op)
	}
	return after
}

// split gives a new disk its own chance. Callers hold d.mu.
func (d *Disk) split() *rand.Rand {
	return rand.New(rand.NewPCG(d.chance.Uint64(), d.chance.Uint64()))
}
