package reconcile

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"manna/fallbacklog"
)

// seen tells what had been written, and fed, when the watermarks that a run uses
// were read.
type seen struct {
	mark fallbacklog.Position // the end of this node's log
	// others: what another node stamped before it, Unix ms, was written by then.
	others int64
	// fed is, log by log, the position before which the lanes had been given
	// everything. Empty: the lanes follow the log themselves.
	fed []fallbacklog.Position
}

// since reports whether a row of a log was, or may have been, written after the
// watermarks were read.
func (s *seen) since(log uint16, row *fallbacklog.Row) bool {
	if log == 0 {
		return row.At >= s.mark
	}
	return row.Time >= s.others
}

// unfed reports whether a claim of the order waits to be handed to its lane, and in
// which log.
func (s *seen) unfed(e *evidence) (log uint16, yes bool) {
	if len(s.fed) == 0 {
		return 0, false
	}
	for i := range e.rows {
		if e.rows[i].Kind == fallbacklog.Claimed && e.rows[i].At >= s.fed[e.logs[i]] {
			return e.logs[i], true
		}
	}
	return 0, false
}

// allFed is the position before which everything is: nothing more is to be fed.
const allFed = fallbacklog.Position(math.MaxUint64)

// fed is how far a node's feeder had come when the lanes were looked at: the last
// `sent` watermark that was written before. number is the log's.
func (c *cluster) fed(ctx context.Context, queue string, number uint16, s *seen) (fallbacklog.Position, error) {
	if number > 0 && c.others[number-1].Retired {
		return allFed, nil
	}
	id := fallbacklog.NamedID(fallbacklog.Sent, queue)
	next := after(id)
	indexes := c.indexes[number]
	for i := len(indexes) - 1; i >= 0; i-- {
		var last *fallbacklog.Row
		for row, err := range indexes[i].Range(id, next) {
			if err != nil {
				return 0, err
			}
			if row.Kind == fallbacklog.Sent && !s.since(number, &row) {
				last = &row
			}
		}
		if last == nil {
			continue
		}
		rec, err := c.read(ctx, place{number, last.At})
		if err != nil {
			return 0, fmt.Errorf("watermark of queue %s: %w", queue, err)
		}
		if rec.Sent == nil {
			return 0, fmt.Errorf("the index says that there is a watermark of queue %s at %v, and there is none", queue, last.At)
		}
		return rec.Sent.Through, nil
	}
	return 0, nil
}

// after is the id that follows; nil where there is none.
func after(id [16]byte) *[16]byte {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	if lo++; lo == 0 {
		if hi++; hi == 0 {
			return nil
		}
	}
	next := new([16]byte)
	binary.BigEndian.PutUint64(next[:8], hi)
	binary.BigEndian.PutUint64(next[8:], lo)
	return next
}
