package crashdisk

import (
	"maps"
	"slices"
	"time"
)

const sectorSize = 512

// sector is never changed once it is in a map, so that the live file, the
// platter and every clone may share it.
type sector [sectorSize]byte

// node is a file or a directory, whatever its name. The bytes of a sector above
// the size are zeros, in live as on the platter.
type node struct {
	dir     bool
	open    int // handles
	changed time.Time

	live map[int64]*sector // a missing sector reads as zeros
	size int64

	platter     map[int64]*sector
	platterSize int64

	dirty   map[int64]bool // live sectors that the next sync writes
	resized bool           // the size is the next sync's to write
	cut     int64          // the smallest size since the last sync; below platterSize a truncation is not synced

	reserved int64 // sectors from the start that Allocate has taken
	room     int64 // sectors taken: reserved, and live ones above
}

func newNode() *node {
	return &node{
		live:    map[int64]*sector{},
		platter: map[int64]*sector{},
		dirty:   map[int64]bool{},
		changed: time.Now(),
	}
}

// readAt fills p from offset off as far as the file reaches.
func (n *node) readAt(p []byte, off int64) int {
	p = p[:max(0, min(int64(len(p)), n.size-off))]
	for done := 0; done < len(p); {
		at := off + int64(done)
		in := at % sectorSize
		part := p[done:min(len(p), done+int(sectorSize-in))]
		if s := n.live[at/sectorSize]; s != nil {
			copy(part, s[in:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

// writeAt writes p as far as free sectors allow and gives the bytes written.
func (n *node) writeAt(p []byte, off, free int64) int {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		k, in := at/sectorSize, at%sectorSize
		old := n.live[k]
		if old == nil && k >= n.reserved {
			if free == 0 {
				break
			}
			free--
			n.room++
		}
		s := new(sector)
		if old != nil {
			*s = *old
		}
		done += copy(s[in:], p[done:])
		n.live[k] = s
		n.dirty[k] = true
	}
	if end := off + int64(done); done > 0 && end > n.size {
		n.size, n.resized = end, true
	}
	n.changed = time.Now()
	return done
}

// wants gives the sectors that an allocation up to size would take.
func (n *node) wants(size int64) int64 {
	upTo := max(n.reserved, sectors(size))
	return upTo + n.liveFrom(upTo) - n.room
}

// allocate takes the room up to size.
func (n *node) allocate(size int64) {
	n.room += n.wants(size)
	n.reserved = max(n.reserved, sectors(size))
	if size > n.size {
		n.size, n.resized, n.changed = size, true, time.Now()
	}
}

func (n *node) truncate(size int64) {
	n.cut = min(n.cut, size)
	cutTo(n.live, size)
	maps.DeleteFunc(n.dirty, func(k int64, _ bool) bool { return k >= sectors(size) })
	n.size, n.resized, n.changed = size, true, time.Now()
	n.reserved = min(n.reserved, sectors(size))
	n.recount()
}

func (n *node) recount() { n.room = n.reserved + n.liveFrom(n.reserved) }

// liveFrom counts the live sectors from k on.
func (n *node) liveFrom(k int64) (count int64) {
	for i := range n.live {
		if i >= k {
			count++
		}
	}
	return count
}

// sync writes what is not on the platter and not given up.
func (n *node) sync() {
	if len(n.dirty) > 0 || n.resized {
		cutTo(n.platter, min(n.cut, n.size))
		for k := range n.dirty {
			n.platter[k] = n.live[k]
		}
		n.platterSize = n.size
	}
	n.giveUp()
}

// giveUp counts everything as synced.
func (n *node) giveUp() {
	clear(n.dirty)
	n.resized = false
	n.cut = n.platterSize
}

// afterPowerLoss gives a closed file that holds what survives of n. kept is
// asked for each thing that may.
func (n *node) afterPowerLoss(kept func() bool) *node {
	if n.dir {
		return &node{dir: true, changed: n.changed}
	}
	platter, size := maps.Clone(n.platter), n.platterSize
	uncut := false
	if n.cut < size {
		if kept() {
			cutTo(platter, n.cut)
			size = n.cut
		} else {
			uncut = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(n.dirty)) {
		if kept() {
			platter[k] = n.live[k]
			size = max(size, min(n.size, (k+1)*sectorSize))
		}
	}
	if n.resized && !uncut && kept() {
		size = n.size
	}
	after := newNode()
	after.platter, after.platterSize, after.cut = platter, size, size
	after.live, after.size = maps.Clone(platter), size
	after.reserved = min(n.reserved, sectors(size))
	after.recount()
	after.changed = n.changed
	return after
}

// clone gives a closed file in the same state.
func (n *node) clone() *node {
	c := *n
	c.open = 0
	c.live, c.platter, c.dirty = maps.Clone(n.live), maps.Clone(n.platter), maps.Clone(n.dirty)
	return &c
}

// cutTo takes away what lies above size.
func cutTo(data map[int64]*sector, size int64) {
	maps.DeleteFunc(data, func(k int64, _ *sector) bool { return k >= sectors(size) })
	if last := data[size/sectorSize]; last != nil {
		s := *last
		clear(s[size%sectorSize:])
		data[size/sectorSize] = &s
	}
}

// sectors gives how many sectors size bytes take.
func sectors(size int64) int64 { return (size + sectorSize - 1) / sectorSize }
