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
// The rows are all of the order's; claimed is the time of the first claim, and
// mark the end of the log right before the watermarks were read.
func (w *watermarks) cover(rows []fallbacklog.Row, claimed int64, mark fallbacklog.Position) bool {
	// What was written after the watermarks were read was written by whoever has
	// the order, or is a claim that the lane had not seen.
	if rows[len(rows)-1].At >= mark {
		return true
	}
	if claimed >= w.claims {
		return true
	}
	// An attempt that began later does not change by what the order came back.
	for _, row := range slices.Backward(rows) {
		switch row.Kind {
		case fallbacklog.Deferred, fallbacklog.Unknown:
			return row.Value >= w.dues
		case fallbacklog.Reissued:
			return row.Time >= w.dues
		}
	}
	return false
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
