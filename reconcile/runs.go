package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/ledger"
)

// ErrHistory: the history of runs could not be read or written. What the run did
// before that stands, and the run may be made again.
var ErrHistory = errors.New("the history of runs is not to be had")

// Runs is the history of runs and the schedule's place: durable, and fenced, so
// that of two who run the same slot only the later one counts. ledger.Runs says
// what each method promises.
type Runs interface {
	StartRun(ctx context.Context, s ledger.RunStart) (ledger.Run, error)
	RenewRun(ctx context.Context, id string, epoch int64, lease time.Duration) error
	FinishRun(ctx context.Context, id string, epoch int64, end ledger.RunEnd) error
	LastSlot(ctx context.Context) (ledger.Slots, error)
	Runs(ctx context.Context, before ledger.Cursor, limit int) (runs []ledger.Run, next ledger.Cursor, err error)
}

const (
	// lease is how long a run may stay silent before another may take its slot.
	lease = 10 * time.Minute
	// renewEvery is how often a run that has nothing to reissue says that it is
	// there.
	renewEvery = time.Minute
	// maxAtOnce bounds how many looks at one range begin at the same instant of a
	// clock that stands.
	maxAtOnce = 100
	// closeTimeout bounds the last word of a run that failed.
	closeTimeout = 5 * time.Second
)

// entry is a run's place in the history. A nil entry is a run without one.
type entry struct {
	runs    Runs
	id      string
	epoch   int64
	now     func() time.Time
	renewed time.Time
	// fenced: the run takes no slot, and whoever takes one after schedule fences it.
	fenced   bool
	schedule int64
}

// begin writes the run into the history; a slot that is not zero is taken. It
// gives nil where there is no history, and for a dry run, which leaves no trace
// but its report.
func (r *Reconciler) begin(ctx context.Context, q Request, slot time.Time) (*entry, error) {
	if r.opts.Runs == nil || q.DryRun {
		return nil, nil
	}
	now := r.opts.Now()
	e := &entry{runs: r.opts.Runs, id: q.Run(), now: r.opts.Now, renewed: now}
	start := ledger.RunStart{Slot: slot, Node: r.opts.Log.Node(), By: q.By, Lease: lease}
	if start.By == "" {
		start.By = "hand"
	}
	if slot.IsZero() && r.opts.Others != nil {
		// Before the run is known: whoever takes a slot after this sees it.
		slots, err := e.runs.LastSlot(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: start run %s: %w", ErrHistory, e.id, err)
		}
		e.fenced, e.schedule = true, slots.Epoch
	}
	if slot.IsZero() || r.opts.Others != nil {
		// The same range may be looked at any number of times. So may a slot, and where
		// there are other nodes the history of every try tells what it may have done.
		e.id += "+" + now.UTC().Format("20060102T150405.000000")
	}
	start.ID = e.id
	run, err := e.runs.StartRun(ctx, start)
	for n := 2; slot.IsZero() && errors.Is(err, ledger.ErrRunExists) && n <= maxAtOnce; n++ {
		start.ID = fmt.Sprintf("%s-%d", e.id, n)
		run, err = e.runs.StartRun(ctx, start)
	}
	e.id = start.ID
	if err != nil {
		return nil, fmt.Errorf("%w: start run %s: %w", ErrHistory, e.id, err)
	}
	e.epoch = run.Epoch
	return e, nil
}

// held fails where the run has lost its slot to another. It is asked before
// everything that cannot be taken back.
func (e *entry) held(ctx context.Context) error {
	if e == nil {
		return nil
	}
	if err := e.runs.RenewRun(ctx, e.id, e.epoch, lease); err != nil {
		return fmt.Errorf("%w: renew run %s: %w", ErrHistory, e.id, err)
	}
	if e.fenced {
		slots, err := e.runs.LastSlot(ctx)
		if err == nil && slots.Epoch != e.schedule {
			err = fmt.Errorf("a slot has been taken since: %w", ledger.ErrFenced)
		}
		if err != nil {
			return fmt.Errorf("%w: renew run %s: %w", ErrHistory, e.id, err)
		}
	}
	e.renewed = e.now()
	return nil
}

// alive is held, but only every renewEvery.
func (e *entry) alive(ctx context.Context) error {
	if e == nil || e.now().Sub(e.renewed) < renewEvery {
		return nil
	}
	return e.held(ctx)
}

// finish writes down what the run came to. One that is not done keeps its slot
// open.
func (e *entry) finish(ctx context.Context, report *Report) error {
	if e == nil {
		return nil
	}
	end := ledger.RunEnd{Headlines: ledger.Headlines{
		From: report.From, To: report.To, Complete: report.Complete, Incomplete: report.Incomplete,
		Expected: report.Expected, Actual: report.Actual, InFlight: report.InFlight, Reissued: report.Reissued,
		Classes: make(map[string]int64, classes), Discrepancies: report.Found, Report: report.Files,
	}}
	for class := Unexpected; class <= Matched; class++ {
		end.Headlines.Classes[class.String()] = report.Classes.Get(class)
	}
	if !report.Done {
		end.Err = report.undone()
	}
	if err := e.runs.FinishRun(ctx, e.id, e.epoch, end); err != nil {
		return fmt.Errorf("%w: finish run %s: %w", ErrHistory, e.id, err)
	}
	return nil
}

// fail writes down why the run did not come to its end. It does what it can: a
// run that says nothing counts as crashed once its lease has ended.
func (e *entry) fail(ctx context.Context, why error) error {
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := e.runs.FinishRun(ctx, e.id, e.epoch, ledger.RunEnd{Err: why.Error()})
	if errors.Is(err, ledger.ErrFenced) {
		return nil // it is not this run's word that counts
	}
	return err
}
