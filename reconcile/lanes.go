package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"manna/fallbacklog"
	"manna/queue"
)

// Lane is what reconciliation needs of a partner's lane.
type Lane interface {
	// Status tells what is in the lane; see queue.Status for what its watermarks
	// promise.
	Status(ctx context.Context) (queue.Status, error)
}

// statusTimeout bounds how long one lane may take to tell its status.
const statusTimeout = 10 * time.Second

// watermarks are a lane's, in Unix milliseconds, the time unit of index rows.
type watermarks struct {
	served bool  // there is such a lane
	err    error // its status could not be had
	// claims: an order claimed at or after it may still be in the lane.
	claims int64
	// dues: an order that is due at or after it may still be in the lane.
	dues    int64
	backlog int64
}

// readWatermarks asks every lane. Each watermark is drawn back by slack.
func readWatermarks(ctx context.Context, lanes map[string]Lane, slack time.Duration) map[string]watermarks {
	marks := make(map[string]watermarks, len(lanes))
	for partner, lane := range lanes {
		limited, cancel := context.WithTimeout(ctx, statusTimeout)
		s, err := lane.Status(limited)
		cancel()
		if err != nil {
			// Watermarks of 1970 cover everything: where a lane says nothing, nothing
			// is known to be missing.
			marks[partner] = watermarks{served: true, err: err}
			continue
		}
		w := watermarks{served: true, claims: s.AsOf.UnixMilli(), dues: s.AsOf.UnixMilli(), backlog: s.Backlog}
		if !s.Oldest.IsZero() {
			w.claims = min(w.claims, s.Oldest.UnixMilli())
		}
		if !s.OldestDue.IsZero() {
			w.dues = min(w.dues, s.OldestDue.UnixMilli())
		}
		w.claims -= slack.Milliseconds()
		w.dues -= slack.Milliseconds()
		marks[partner] = w
	}
	return marks
}

// cover reports whether the lane may still have the order, which is not final.
// s is of when the watermarks were read.
func (w *watermarks) cover(e *evidence, s *seen) bool {
	for log, rows := range e.each() {
		// What was written after the watermarks were read was written by whoever has
		// the order, or is a claim that the lane had not seen.
		if s.since(log, &rows[len(rows)-1]) {
			return true
		}
		// A claim that two nodes took in may have reached the lane from either.
		if claim := find(rows, fallbacklog.Claimed); claim != nil && claim.Time >= w.claims {
			return true
		}
		// So may one that two lanes put back: each copy has a due time of its own.
		if due, ok := lastDue(rows); ok && due >= w.dues {
			return true
		}
	}
	return false
}

func find(rows []fallbacklog.Row, kind fallbacklog.Kind) *fallbacklog.Row {
	for i := range rows {
		if rows[i].Kind == kind {
			return &rows[i]
		}
	}
	return nil
}

// lastDue is when an order was to come back, by the rows of one log. An attempt
// that began later does not change it.
func lastDue(rows []fallbacklog.Row) (due int64, ok bool) {
	for _, row := range slices.Backward(rows) {
		switch row.Kind {
		case fallbacklog.Deferred, fallbacklog.Unknown:
			return row.Value, true
		case fallbacklog.Reissued:
			return row.Time, true
		}
	}
	return 0, false
}

// gate decides whether a run may reissue. It sums the lanes' backlogs.
func gate(marks map[string]watermarks, under int64) (open bool, why string) {
	var backlog int64
	for _, w := range marks {
		backlog += w.backlog
	}
	if backlog < under {
		return true, fmt.Sprintf("open: %d first deliveries wait in the lanes, under %d", backlog, under)
	}
	return false, fmt.Sprintf("closed: %d first deliveries wait in the lanes; nothing is reissued until they are under %d", backlog, under)
}
