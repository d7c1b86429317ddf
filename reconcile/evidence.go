package reconcile

import (
	"iter"
	"math"
	"sort"

	"manna/fallbacklog"
	"manna/gift"
)

// place is where a record stands: the log's number in a run, of which 0 is this
// node's own, and the position in it.
type place struct {
	log uint16
	at  fallbacklog.Position
}

// evidence is what the logs have of one order. Its room is used again for the next
// one.
type evidence struct {
	// rows stand log by log, this node's own first, each log's in the order in which
	// they were appended.
	rows  []fallbacklog.Row
	logs  []uint16 // whose each row is
	times []int64  // interleave's room
}

func (e *evidence) reset() { e.rows, e.logs = e.rows[:0], e.logs[:0] }

func (e *evidence) place(i int) place { return place{e.logs[i], e.rows[i].At} }

// single reports whether all rows are of one log.
func (e *evidence) single() bool { return e.logs[0] == e.logs[len(e.logs)-1] }

// each gives the rows of each log that has any.
func (e *evidence) each() iter.Seq2[uint16, []fallbacklog.Row] {
	return func(yield func(uint16, []fallbacklog.Row) bool) {
		for from := 0; from < len(e.rows); {
			to := from + 1
			for to < len(e.rows) && e.logs[to] == e.logs[from] {
				to++
			}
			if !yield(e.logs[from], e.rows[from:to]) {
				return
			}
			from = to
		}
	}
}

// first is the row of a kind that was written first: of each log's first, the one
// with the oldest stamp. Nil: there is none.
func (e *evidence) first(kind fallbacklog.Kind) *fallbacklog.Row {
	var first *fallbacklog.Row
	for i, last := 0, -1; i < len(e.rows); i++ {
		row := &e.rows[i]
		if row.Kind != kind || int(e.logs[i]) == last {
			continue
		}
		last = int(e.logs[i])
		if first == nil || row.Time < first.Time {
			first = row
		}
	}
	return first
}

// claim is where the claim can be read: in this node's own log, where that has it.
func (e *evidence) claim() (p place) {
	for i := range e.rows {
		if e.rows[i].Kind == fallbacklog.Claimed {
			return e.place(i)
		}
	}
	return p
}

// interleave puts the rows of all logs in one order: claims first, then by time,
// each log's rows in their own order. A clock that is set back is taken to stand
// still. The rows do not stand log by log any more then.
func (e *evidence) interleave() {
	if e.single() {
		return
	}
	e.times = e.times[:0]
	for i := range e.rows {
		t := e.rows[i].Time
		if i > 0 && e.logs[i] == e.logs[i-1] {
			t = max(t, e.times[i-1])
		}
		e.times = append(e.times, t)
	}
	sort.Stable(e)
}

// Len implements sort.Interface for interleave.
func (e *evidence) Len() int { return len(e.rows) }

// Less implements sort.Interface for interleave.
func (e *evidence) Less(i, j int) bool {
	if a, b := e.rows[i].Kind == fallbacklog.Claimed, e.rows[j].Kind == fallbacklog.Claimed; a != b {
		return a
	}
	return e.times[i] < e.times[j]
}

// Swap implements sort.Interface for interleave.
func (e *evidence) Swap(i, j int) {
	e.rows[i], e.rows[j] = e.rows[j], e.rows[i]
	e.logs[i], e.logs[j] = e.logs[j], e.logs[i]
	e.times[i], e.times[j] = e.times[j], e.times[i]
}

// state tells where an order stands that was not granted. open: an attempt began
// that has no outcome yet. It interleaves the rows.
//
// Which of two logs was written first only their clocks tell, and they may be
// slack milliseconds apart. So what one log doubts is settled by what another says
// only where that is clearly later, and what one log says was parked goes on only
// where another clearly says so later. A refusal stands, as in ledger.Fold.
func (e *evidence) state(slack int64) (state gift.State, open bool) {
	if len(e.rows) == 1 {
		return gift.StateAccepted, false
	}
	if e.single() {
		return fallbacklog.StateOf(e.rows)
	}
	ended := e.ended(slack)
	doubt, began := e.doubt(slack)
	e.interleave()
	state, open = fallbacklog.StateOf(e.rows)
	switch {
	case ended != 0:
		return ended, false
	case state == gift.StateRefused || state == gift.StateParked:
	case began:
		open = true
	case doubt && !open:
		state = gift.StateUnknown
	}
	return state, open
}

// ended is how the order ended short of a grant by one log: refused, for the partner has
// said its word, and who writes on has not heard it; or parked, where no other log
// clearly has it go on; 0: it has not.
func (e *evidence) ended(slack int64) (state gift.State) {
	for log, rows := range e.each() {
		switch s, _ := fallbacklog.StateOf(rows); s {
		case gift.StateRefused:
			return s
		case gift.StateParked:
			at := int64(math.MinInt64)
			for _, row := range rows {
				if row.Kind == fallbacklog.Parked {
					at = max(at, row.Time)
				}
			}
			if !e.goesOn(log, at+slack) {
				state = s
			}
		}
	}
	return state
}

// goesOn reports whether a log other than the one that parked has anything but a
// claim of the time or later.
func (e *evidence) goesOn(parked uint16, at int64) bool {
	for i, row := range e.rows {
		if e.logs[i] != parked && row.Kind != fallbacklog.Claimed && row.Time >= at {
			return true
		}
	}
	return false
}

// doubt reports whether some log ends in doubt of the order that no other has
// settled; began: because of an attempt without an outcome.
func (e *evidence) doubt(slack int64) (doubt, began bool) {
	for log, rows := range e.each() {
		state, open := fallbacklog.StateOf(rows)
		if !open && state != gift.StateUnknown {
			continue
		}
		since := int64(0)
		for _, row := range rows {
			if row.Kind == fallbacklog.Attempted || row.Kind == fallbacklog.Unknown {
				since = max(since, row.Time)
			}
		}
		if !e.settled(log, since+slack) {
			doubt, began = true, began || open
		}
	}
	return doubt, began
}

// deferred reports whether some log says, at the time or later, that the order was
// certainly not applied.
func (e *evidence) deferred(at int64) bool {
	for i := range e.rows {
		if e.rows[i].Kind == fallbacklog.Deferred && e.rows[i].Time >= at {
			return true
		}
	}
	return false
}

// settled reports whether a log other than the one that doubts has an outcome of
// the time or later.
func (e *evidence) settled(doubting uint16, at int64) bool {
	for i, row := range e.rows {
		if e.logs[i] != doubting && row.Kind == fallbacklog.Deferred && row.Time >= at {
			return true
		}
	}
	return false
}
