package fallbacklog

import (
	"slices"
	"sync"
)

// live is the index of a segment that has no index file yet. Its size is bounded
// by the segment's. Safe for concurrent use.
type live struct {
	segment uint32

	mu    sync.RWMutex
	names *Names
	rows  []Row
	prev  []uint32            // of each row: 1 + the row before with the same id, or 0
	last  map[[16]byte]uint32 // 1 + the last row of an id
}

func newLive(segment uint32) *live {
	return &live{segment: segment, names: newNames(), last: make(map[[16]byte]uint32)}
}

func (l *live) add(recs ...*Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rec := range recs {
		first := len(l.rows)
		l.rows = rowsOf(l.rows, rec, l.names)
		for i := first; i < len(l.rows); i++ {
			id := l.rows[i].ID
			l.prev = append(l.prev, l.last[id])
			l.last[id] = uint32(i + 1)
		}
	}
}

// find appends the rows of an id in ascending order.
func (l *live) find(rows []Row, id [16]byte) []Row {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first := len(rows)
	for i := l.last[id]; i != 0; i = l.prev[i-1] {
		rows = append(rows, l.rows[i-1])
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
