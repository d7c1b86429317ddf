package ledger

import (
	"context"
	"time"
)

// Runs keeps the reconciliation runs and decides who runs a slot. Kept here
// alone; durable when a call returns nil.
type Runs interface {
	// StartRun begins a run. For one with a slot it takes the slot, which at most
	// one run at a time can, and gives the run the epoch that fences earlier ones
	// and the window's beginning. A slot whose run crashed or failed may be
	// started again, under the same id or another. Errors: ErrSlotTaken,
	// ErrSlotHeld, ErrRunExists.
	StartRun(ctx context.Context, s RunStart) (Run, error)
	// RenewRun gives a running run a new lease. It is also the question whether
	// the run still counts, to be asked before each thing it does: ErrFenced says
	// that it does not.
	RenewRun(ctx context.Context, id string, epoch int64, lease time.Duration) error
	// FinishRun ends a run with what it found. Repeating it is harmless. Errors:
	// ErrFenced, ErrNotFound.
	FinishRun(ctx context.Context, id string, epoch int64, end RunEnd) error
	// Run gives a run. Errors: ErrNotFound.
	Run(ctx context.Context, id string) (Run, error)
	// Runs lists runs, the one started last first, from before on.
	Runs(ctx context.Context, before Cursor, limit int) (runs []Run, next Cursor, err error)
	// LastSlot tells where the schedule stands.
	LastSlot(ctx context.Context) (Slots, error)
}

// RunState is where a run stands; the package comment draws the moves.
type RunState string

const (
	RunRunning  RunState = "running"
	RunFinished RunState = "finished"
	RunFailed   RunState = "failed"
	RunCrashed  RunState = "crashed"
)

// RunStart says which run is to begin.
type RunStart struct {
	ID   string
	Slot time.Time // of the schedule; zero for a run by hand, which takes none
	Node string
	By   string // who asked for it: "cron", a person
	Dry  bool   // it only reports
	// Lease is how long the run may stay silent before it counts as crashed.
	Lease time.Duration
}

// RunEnd is what a run came to.
type RunEnd struct {
	Headlines Headlines
	// Err is why the run failed; empty where it finished.
	Err string
}

// Run is a reconciliation run.
type Run struct {
	ID    string    `json:"run"`
	Slot  time.Time `json:"slot,omitzero"`
	Since time.Time `json:"since,omitzero"` // the slot finished last when it took its own
	Node  string    `json:"node"`
	By    string    `json:"by,omitempty"`
	Dry   bool      `json:"dry_run,omitempty"`
	// Epoch is 0 for a run without a slot.
	Epoch     int64     `json:"epoch,omitempty"`
	State     RunState  `json:"state"`
	Started   time.Time `json:"started"`
	Finished  time.Time `json:"finished,omitzero"`
	Err       string    `json:"error,omitempty"`
	Headlines Headlines `json:"headlines,omitzero"`
}

// Headlines are the figures at the head of a run's report.
type Headlines struct {
	From          time.Time        `json:"from,omitzero"`
	To            time.Time        `json:"to,omitzero"`
	Complete      bool             `json:"complete"`
	Incomplete    []string         `json:"incomplete,omitempty"`
	Expected      int64            `json:"expected"`
	Actual        int64            `json:"actual"`
	InFlight      int64            `json:"in_flight"`
	Reissued      int64            `json:"reissued"`
	Classes       map[string]int64 `json:"classes,omitempty"`
	Discrepancies int64            `json:"discrepancies"`
	Report        string           `json:"report,omitempty"` // where the whole report is
}

// Slots is where the schedule stands. Missed slots are those after Finished.
type Slots struct {
	Started  time.Time `json:"started,omitzero"`  // the last slot that a run took
	Finished time.Time `json:"finished,omitzero"` // the last slot whose run finished
	Epoch    int64     `json:"epoch"`
	Holder   string    `json:"holder,omitempty"` // id of the run that holds the slot
	Lease    time.Time `json:"lease,omitzero"`   // until when it does
}
