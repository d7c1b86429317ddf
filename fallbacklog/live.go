package fallbacklog

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
)

// live is the index of a segment that has no index file yet. Its size is bounded
// by the segment's. Safe for concurrent use.
//
// It is a hash table of chains: half of what an append costs would otherwise be a
// map's.
type live struct {
	segment uint32
	mix     uint64 // random and odd, so that nobody can aim at one chain

	mu    sync.RWMutex
	names *Names
	rows  []Row
	prev  []uint32 // of each row: 1 + the row before in its chain, or 0
	heads []uint32 // 1 + the last row of a chain, or 0; a power of two of them
	shift uint
}

const minHeadsBits = 10

func newLive(segment uint32) *live {
	return &live{segment: segment, mix: rand.Uint64() | 1, names: newNames(), heads: make([]uint32, 1<<minHeadsBits), shift: 64 - minHeadsBits}
}

func (l *live) chain(id *[16]byte) uint64 {
	return (binary.LittleEndian.Uint64(id[:]) ^ binary.LittleEndian.Uint64(id[8:])) * l.mix >> l.shift
}

func (l *live) add(recs ...*Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rec := range recs {
		l.rows = rowsOf(l.rows, rec, l.names)
	}
	if len(l.rows) > len(l.heads) {
		l.grow()
		return
	}
	l.link(len(l.prev))
}

// link puts the rows from first on into their chains.
func (l *live) link(first int) {
	for i := first; i < len(l.rows); i++ {
		head := &l.heads[l.chain(&l.rows[i].ID)]
		l.prev = append(l.prev, *head)
		*head = uint32(i + 1)
	}
}

// grow makes at least four heads for each row and puts all rows into their chains
// again.
func (l *live) grow() {
	for len(l.rows)*4 > 1<<(64-l.shift) {
		l.shift--
	}
	l.heads = make([]uint32, 1<<(64-l.shift))
	l.prev = l.prev[:0]
	l.link(0)
}

// find appends the rows of an id before end in ascending order.
func (l *live) find(rows []Row, id [16]byte, end Position) []Row {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first := len(rows)
	for i := l.heads[l.chain(&id)]; i != 0; i = l.prev[i-1] {
		if r := &l.rows[i-1]; r.ID == id && r.At < end {
			rows = append(rows, *r)
		}
	}
	slices.Reverse(rows[first:])
	return rows
}

// sorted copies the rows in the order of an index file.
func (l *live) sorted() ([]Row, *Names) {
	l.mu.RLock()
	rows := slices.Clone(l.rows)
	l.mu.RUnlock()
	slices.SortFunc(rows, compareRows)
	return rows, l.names
}
