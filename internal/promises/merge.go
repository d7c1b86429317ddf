package promises

import (
	"iter"

	"manna/fallbacklog"
)

// head is the next record of a log.
type head struct {
	rec  *fallbacklog.Record
	at   int64 // the latest time so far in the log, Unix nanoseconds
	next func() (*fallbacklog.Record, error, bool)
	stop func()
}

// merge reads logs side by side by the times of their records, each in its own
// order. A log that cannot be read on is left where it is.
func merge(logs []iter.Seq2[*fallbacklog.Record, error], take func(*fallbacklog.Record), damaged func(error)) {
	var heads []*head
	for _, log := range logs {
		h := &head{}
		h.next, h.stop = iter.Pull2(log)
		defer h.stop()
		heads = append(heads, h)
	}
	for {
		var first *head
		for _, h := range heads {
			if h.rec == nil && h.next != nil {
				h.advance(damaged)
			}
			if h.rec != nil && (first == nil || h.at < first.at) {
				first = h
			}
		}
		if first == nil {
			return
		}
		take(first.rec)
		first.rec = nil
	}
}

// advance reads the next record, if there is one.
func (h *head) advance(damaged func(error)) {
	rec, err, ok := h.next()
	if err != nil {
		damaged(err)
	}
	if !ok || err != nil {
		h.next = nil
		return
	}
	h.rec, h.at = rec, max(h.at, rec.Time.UnixNano())
}
