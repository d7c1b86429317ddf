package reconcile

import (
	"context"
	"fmt"
	"time"

	"manna/ledger"
)

// rivals names the runs on other nodes that may have reissued what their logs, as
// far as they are here, do not tell. Run e is in the history already, so of two
// runs that begin at once at least one is told of the other.
//
// A run that says nothing has ended once another has taken a slot after it, for that
// fences it.
func (r *Reconciler) rivals(ctx context.Context, e *entry, logs *cluster) (list []string, err error) {
	through, whole := logs.through()
	if e == nil || whole {
		return nil, nil
	}
	arrived := make(map[string]time.Time, len(logs.others))
	for i := range logs.others {
		if s := &logs.others[i]; !s.ended() {
			arrived[s.Node] = s.AsOf
		}
	}
	var fenced time.Time // when the next slot was taken; zero: none has been
	for page := (ledger.Cursor{}); ; {
		runs, next, err := e.runs.Runs(ctx, page, ledger.MaxPage)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrHistory, err)
		}
		for i := range runs {
			run := &runs[i]
			asOf, known := arrived[run.Node]
			ended := run.Finished
			if ended.IsZero() {
				ended = fenced
			}
			if known && mayReissue(run) && (ended.IsZero() || ended.Add(r.opts.Slack).After(asOf)) {
				until := "goes on"
				if !ended.IsZero() {
					until = "ended at " + clock(ended, asOf)
				}
				list = append(list, fmt.Sprintf("run %s of node %s %s, and the node's log has arrived up to %s", run.ID, run.Node, until, clock(asOf, run.Started)))
			}
			if run.Slot.IsZero() {
				continue
			}
			if fenced = run.Started; !fenced.Add(r.opts.Slack).After(through) {
				return list, nil // all logs tell what was before
			}
		}
		if page = next; page.IsZero() {
			return list, nil
		}
	}
}

// mayReissue reports whether a run may have reissued anything: one that did not
// tell what it came to may.
func mayReissue(run *ledger.Run) bool {
	told := run.State == ledger.RunFinished || run.State == ledger.RunFailed && !run.Headlines.To.IsZero()
	return !run.Dry && (!told || run.Headlines.Reissued > 0)
}

// leads reports whether the schedule is this node's: it took the newest slot that
// was taken, or none has been.
func (s *Scheduler) leads(ctx context.Context) (yes bool, err error) {
	if s.r.opts.Others == nil {
		return true, nil
	}
	err = s.patiently(ctx, func() error {
		runs, _, err := s.r.opts.Runs.Runs(ctx, ledger.Cursor{}, ledger.DefaultPage)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHistory, err)
		}
		yes = true
		for i := range runs {
			if !runs[i].Slot.IsZero() {
				yes = runs[i].Node == s.r.opts.Log.Node()
				break
			}
		}
		return nil
	})
	return yes, err
}
