package reconcile

import (
	"context"
	"fmt"
	"math"
	"time"

	"manna/fallbacklog"
)

// view is what a run knows of the lanes, and how far that goes with what it knows
// of the other nodes' logs.
type view struct {
	marks   map[string]watermarks // of the sample that the logs bear out
	seen    seen
	known   bool      // there is such a sample
	asOf    time.Time // of the sample; zero where there are no other nodes
	missing []string  // logs that are not there, or not up to the run's end
	rivals  []string  // runs whose reissues the logs may not tell yet
	through time.Time // how far the logs are
	first   time.Time // the oldest sample there is
	// explained as the judge has it.
	explained int64
}

// view chooses the sample that a run goes by: the newest that is older than what
// all logs have arrived at, so that all that the lanes had let go by then is in
// the logs. Backlogs are those of now.
func (r *Reconciler) view(now *sample, logs *cluster, to time.Time) *view {
	v := &view{missing: logs.missing(to), explained: math.MaxInt64, first: now.began}
	chosen := now
	through, whole := logs.through()
	if !whole {
		v.through, v.explained = through, through.Add(-r.opts.Slack).UnixMilli()
		v.first = r.samples.first(now)
		chosen = r.samples.newest(through.Add(-r.opts.Slack), now.lanes)
	}
	v.known = chosen != nil
	v.marks = make(map[string]watermarks, len(now.lanes))
	for partner, w := range now.lanes {
		backlog := w.backlog
		// Watermarks of 1970 cover everything: nothing is known to be missing.
		w = watermarks{served: true}
		if v.known {
			if w = chosen.lanes[partner]; !w.served {
				w = watermarks{served: true, err: fmt.Errorf("it was not served yet at %s, and what came after the logs do not bear out", clock(chosen.ended, now.ended))}
			}
		}
		w.backlog = backlog
		v.marks[partner] = w
	}
	if !v.known {
		return v
	}
	v.seen = seen{mark: chosen.mark, others: chosen.began.Add(-r.opts.Slack).UnixMilli()}
	if !logs.alone() {
		v.asOf = chosen.began
	}
	return v
}

// instruct tells the judge what the run goes by.
func (r *Reconciler) instruct(ctx context.Context, j *judge, v *view, logs *cluster) error {
	j.seen, j.slack, j.explained, j.read = v.seen, r.opts.Slack.Milliseconds(), v.explained, logs.read
	if !logs.alone() {
		for i := range logs.losses {
			j.lost = max(j.lost, logs.losses[i].Until.Add(r.opts.Slack).UnixMilli())
		}
	}
	if !v.known || r.opts.Fed == "" {
		return nil
	}
	fed := make([]fallbacklog.Position, len(logs.indexes))
	for number := range fed {
		var err error
		if fed[number], err = logs.fed(ctx, r.opts.Fed, uint16(number), &v.seen); err != nil {
			return err
		}
	}
	j.seen.fed = fed
	return nil
}

// gate decides whether a run may reissue, and says why not.
func (v *view) gate(under int64) (open bool, why string) {
	switch {
	case len(v.missing) > 0:
		return false, fmt.Sprintf("closed: the logs of %d nodes are not there, and may hold any order's outcome; nothing is reissued until they are", len(v.missing))
	case !v.known:
		return false, fmt.Sprintf("closed: the lanes were looked at from %s on, and the logs have arrived up to %s; nothing is reissued until they have arrived at what came after", clock(v.first, v.through), clock(v.through, v.first))
	case len(v.rivals) > 0:
		return false, fmt.Sprintf("closed: %s; nothing is reissued until the logs tell what %d such runs reissued", v.rivals[0], len(v.rivals))
	}
	return gate(v.marks, under)
}
