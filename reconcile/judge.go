package reconcile

import (
	"fmt"
	"slices"

	"manna/fallbacklog"
	"manna/gift"
)

// finding is what one order comes to. It is small: a chunk of them waits while an
// earlier span is written.
type finding struct {
	class   Class
	lane    uint16
	camp    uint16
	differs bool // granted is another amount than was claimed
	open    bool // an attempt began that has no outcome
	id      gift.OrderID
	at      int64 // of the claim, or of the grant where there is none; Unix ms
	amount  int64
	granted int64
	claim   fallbacklog.Position // of the `claimed` record
	tried   fallbacklog.Position // of the last record that counts attempts; 0: none
}

// judge decides the class of an order from its rows.
type judge struct {
	from, to int64  // Unix ms
	campaign uint16 // 0: all
	marks    []watermarks
	mark     fallbacklog.Position // the log's end before the watermarks were read
	read     func(fallbacklog.Position) (*fallbacklog.Record, error)
}

// order judges one order; ok is false where it is no part of this run.
func (j *judge) order(rows []fallbacklog.Row) (f finding, ok bool, err error) {
	claim, grant := find(rows, fallbacklog.Claimed), find(rows, fallbacklog.Granted)
	first := claim
	if first == nil {
		first = grant
	}
	// Events of an order that has neither claim nor grant explain nothing and
	// need nothing explained.
	if first == nil || first.Time < j.from || first.Time >= j.to || j.campaign != 0 && first.Campaign != j.campaign {
		return f, false, nil
	}
	f = finding{id: gift.OrderID(first.ID), lane: first.Lane, camp: first.Campaign, at: first.Time, amount: first.Value, claim: first.At}
	switch {
	case claim == nil:
		f.class = Unexpected
	case grant != nil:
		f.class, err = j.granted(&f, rows)
	default:
		f.class = j.pending(&f, rows)
	}
	return f, true, err
}

// granted tells one grant from several: a grant that was told twice, as after a
// repeat with the same key, carries the same reference.
func (j *judge) granted(f *finding, rows []fallbacklog.Row) (Class, error) {
	grants, reference := 0, ""
	class := Matched
	for i := range rows {
		if rows[i].Kind != fallbacklog.Granted {
			continue
		}
		grants++
		// A claim without an amount can be granted with any.
		if f.amount != 0 && rows[i].Value != f.amount && !f.differs {
			f.differs, f.granted = true, rows[i].Value
			class = Mismatched
		}
	}
	if grants == 1 {
		return class, nil
	}
	for i := range rows {
		if rows[i].Kind != fallbacklog.Granted {
			continue
		}
		rec, err := j.read(rows[i].At)
		if err != nil {
			return 0, fmt.Errorf("order %v: %w", f.id, err)
		}
		if rec.Event == nil || rec.Event.Reference == "" || rec.Event.Reference == reference {
			continue
		}
		if reference != "" {
			return Duplicate, nil
		}
		reference = rec.Event.Reference
	}
	return class, nil
}

// pending judges an order that was not granted.
func (j *judge) pending(f *finding, rows []fallbacklog.Row) Class {
	state, open := gift.StateAccepted, false
	if len(rows) > 1 {
		state, open = fallbacklog.StateOf(rows)
	}
	switch state {
	case gift.StateRefused:
		return Refused
	case gift.StateParked:
		return Parked
	}
	f.open = open
	for _, row := range slices.Backward(rows) {
		if row.Kind != fallbacklog.Claimed {
			f.tried = row.At
			break
		}
	}
	lane := watermarks{}
	if int(f.lane) < len(j.marks) {
		lane = j.marks[f.lane]
	}
	switch {
	case lane.served && lane.cover(rows, f.at, j.mark):
		return InFlight
	case open || state == gift.StateUnknown:
		return InDoubt
	}
	return Missing
}

func find(rows []fallbacklog.Row, kind fallbacklog.Kind) *fallbacklog.Row {
	for i := range rows {
		if rows[i].Kind == kind {
			return &rows[i]
		}
	}
	return nil
}
