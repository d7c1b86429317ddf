package reconcile

import (
	"context"
	"encoding/binary"
	"iter"

	"manna/fallbacklog"
)

// span is a range of ids: from ≤ id < to; a nil to has no end.
type span struct {
	from [16]byte
	to   *[16]byte
}

// spans cuts all ids into n ranges of equal width. Ids are hashes, so they hold
// about equally many.
func spans(n int) []span {
	list := make([]span, n)
	step := ^uint64(0)/uint64(n) + 1
	for i := 1; i < n; i++ {
		bound := new([16]byte)
		binary.BigEndian.PutUint64(bound[:], uint64(i)*step)
		list[i-1].to = bound
		list[i].from = *bound
	}
	return list
}

// only is the range of one id.
func only(id [16]byte) span {
	next := id
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return span{from: id, to: &next}
		}
	}
	return span{from: id} // the last there is
}

const (
	// chunkRows is how many rows are read at a time from one index. The merge
	// holds this many of each index and no more.
	chunkRows = 128
	// checkEvery is after how many orders the merge looks whether it is to end.
	checkEvery = 4096
)

// merge streams the orders of a span: for each id its rows of all logs, lanes and
// campaigns in the common numbering. Rows of named records are left out, and those of
// claims where there is but one log. What visit is given is valid until it returns. Each log's indexes come
// oldest first.
func merge(ctx context.Context, logs [][]*fallbacklog.Index, s span, common *names, visit func(*evidence) error) error {
	var h cursors
	defer func() {
		for _, c := range h {
			c.stop()
		}
	}()
	for log, indexes := range logs {
		for _, x := range indexes {
			c := &cursor{log: uint16(log), source: len(h)}
			names := &translation{from: x.Names(), to: common}
			c.next, c.stop = iter.Pull2(chunks(x.Range(s.from, s.to), names, len(logs) > 1))
			h = append(h, c)
		}
	}
	// Each cursor has to be at its first row before it can be compared.
	for i := len(h) - 1; i >= 0; i-- {
		more, err := h[i].fill()
		if err != nil {
			return err
		}
		if !more {
			h.remove(i)
		}
	}
	h.heapify()
	var e evidence
	for n := 0; len(h) > 0; n++ {
		if n%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		e.reset()
		for id := h[0].rows[0].ID; len(h) > 0 && h[0].rows[0].ID == id; {
			more, err := h[0].take(&e, id)
			if err != nil {
				return err
			}
			if !more {
				h.remove(0)
			}
			h.down(0)
		}
		if err := visit(&e); err != nil {
			return err
		}
	}
	return nil
}

// chunks gathers the rows of orders, and of claims where asked, so that a pull is paid for a chunk and not
// for each row.
func chunks(rows iter.Seq2[fallbacklog.Row, error], names *translation, claims bool) iter.Seq2[[]fallbacklog.Row, error] {
	return func(yield func([]fallbacklog.Row, error) bool) {
		chunk := make([]fallbacklog.Row, 0, chunkRows)
		for row, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			ofOrder := !row.OfClaim && (row.Kind == fallbacklog.Claimed || row.Kind >= fallbacklog.Attempted && row.Kind <= fallbacklog.Reissued)
			if !ofOrder && !(claims && ofClaim(&row)) {
				continue
			}
			row.Lane, row.Campaign = names.number(row.Lane), names.number(row.Campaign)
			chunk = append(chunk, row)
			if len(chunk) == cap(chunk) {
				if !yield(chunk, nil) {
					return
				}
				chunk = chunk[:0]
			}
		}
		if len(chunk) > 0 {
			yield(chunk, nil)
		}
	}
}

// cursor is where the merge stands in one index.
type cursor struct {
	next   func() ([]fallbacklog.Row, error, bool)
	stop   func()
	rows   []fallbacklog.Row // of the chunk, not taken yet
	hi, lo uint64            // the first row's id
	log    uint16
	source int // the index's place among its kin: log by log, the older one first
}

// take moves the rows of id that the cursor is at. more is false at the end.
func (c *cursor) take(e *evidence, id [16]byte) (more bool, err error) {
	for c.rows[0].ID == id {
		e.rows, e.logs = append(e.rows, c.rows[0]), append(e.logs, c.log)
		if c.rows = c.rows[1:]; len(c.rows) > 0 {
			continue
		}
		if more, err := c.fill(); !more || err != nil {
			return false, err
		}
	}
	c.key()
	return true, nil
}

func (c *cursor) fill() (more bool, err error) {
	rows, err, ok := c.next()
	if !ok || err != nil {
		return false, err
	}
	c.rows = rows
	c.key()
	return true, nil
}

func (c *cursor) key() {
	id := &c.rows[0].ID
	c.hi, c.lo = binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
}

func (c *cursor) before(d *cursor) bool {
	if c.hi != d.hi {
		return c.hi < d.hi
	}
	if c.lo != d.lo {
		return c.lo < d.lo
	}
	return c.source < d.source
}

// cursors is a heap with the smallest id, then the lowest log's
// oldest index, at its root.
type cursors []*cursor

func (h cursors) heapify() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h cursors) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if right := least + 1; right < len(h) && h[right].before(h[least]) {
			least = right
		}
		if !h[least].before(h[i]) {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// remove puts the last cursor in the place of one that has ended; the heap is
// put in order by its caller.
func (h *cursors) remove(i int) {
	(*h)[i].stop()
	last := len(*h) - 1
	(*h)[i] = (*h)[last]
	*h = (*h)[:last]
}
