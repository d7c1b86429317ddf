package fallbacklog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
)

// live is the index of a segment that has no index file yet. Its size is bounded
// by the segment's. Safe for concurrent use.
//
// It is a hash table of chains, and its rows never move: with a map and one slice
// it would cost more than all else that an append does.
type live struct {
	segment uint32
	mix     uint64 // random and odd, so that nobody can aim at one chain

	mu    sync.RWMutex
	names *Names
	rows  [][]Row // all but the last have liveChunk of them
	count int
	prev  []uint32 // of each row: 1 + the row before in its chain, or 0
	heads []uint32 // 1 + the last row of a chain, or 0; a power of two of them
	shift uint
}

const (
	liveChunk    = 4096
	minHeadsBits = 10
)

// newLive makes an index with room for about so many rows: more cost a pause.
func newLive(segment uint32, rows int) *live {
	n := max(minHeadsBits, bits.Len(uint(rows)))
	return &live{segment: segment, mix: rand.Uint64() | 1, names: newNames(), heads: make([]uint32, 1<<n), prev: make([]uint32, 0, rows), shift: uint(64 - n)}
}

func (l *live) chain(id *[16]byte) uint64 {
	return (binary.LittleEndian.Uint64(id[:]) ^ binary.LittleEndian.Uint64(id[8:])) * l.mix >> l.shift
}

func (l *live) row(i uint32) *Row { return &l.rows[i/liveChunk][i%liveChunk] }

func (l *live) add(recs ...*Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var room [8]Row
	for _, rec := range recs {
		for _, row := range rowsOf(room[:0], rec, l.names) {
			l.push(row)
		}
	}
}

func (l *live) push(row Row) {
	if l.count%liveChunk == 0 {
		// The first chunk grows: most segments of a quiet log have few rows.
		l.rows = append(l.rows, make([]Row, 0, min(liveChunk, 64+l.count)))
	}
	last := &l.rows[len(l.rows)-1]
	*last = append(*last, row)
	l.count++
	if l.count <= len(l.heads) {
		l.link(uint32(l.count - 1))
		return
	}
	l.shift -= 2
	l.heads = make([]uint32, 1<<(64-l.shift))
	l.prev = make([]uint32, 0, len(l.heads))
	for i := range l.count {
		l.link(uint32(i))
	}
}

// link puts row i, the next one, into its chain.
func (l *live) link(i uint32) {
	head := &l.heads[l.chain(&l.row(i).ID)]
	l.prev = append(l.prev, *head)
	*head = i + 1
}

// find appends the rows of an id before end in ascending order.
func (l *live) find(rows []Row, id [16]byte, end Position) []Row {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first := len(rows)
	for i := l.heads[l.chain(&id)]; i != 0; i = l.prev[i-1] {
		if r := l.row(i - 1); r.ID == id && r.At < end {
			rows = append(rows, *r)
		}
	}
	slices.Reverse(rows[first:])
	return rows
}

// sorted copies the rows in the order of an index file.
func (l *live) sorted() ([]Row, *Names) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sortedRows(slices.Concat(l.rows...)), l.names
}

// sortedRows gives the rows in the order of an index file. It sorts the beginnings
// of the ids, for rows are large and nearly all differ there.
func sortedRows(rows []Row) []Row {
	type key struct {
		id  uint64
		row uint32
	}
	keys := make([]key, len(rows))
	for i := range rows {
		keys[i] = key{binary.BigEndian.Uint64(rows[i].ID[:]), uint32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.id != b.id {
			return cmp.Compare(a.id, b.id)
		}
		return compareRows(rows[a.row], rows[b.row])
	})
	out := make([]Row, len(rows))
	for i, k := range keys {
		out[i] = rows[k.row]
	}
	return out
}

// compareRows orders rows by id, then as they were appended.
func compareRows(a, b Row) int {
	if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.Value, b.Value))
}
