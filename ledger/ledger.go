package ledger

import (
	"context"
	"errors"
	"time"

	"manna/fallbacklog"
)

var (
	// ErrNotFound: the ledger has nothing of this id.
	ErrNotFound = errors.New("not in the ledger")
	// ErrMoved: a batch does not go on from where the ledger stands. Nothing of
	// it was applied.
	ErrMoved = errors.New("the ledger stands at another place of the log")
	// ErrDamaged: the engine cannot make sense of its own data. Reset makes the
	// derived part new.
	ErrDamaged = errors.New("ledger is damaged")
	// ErrNotOpen: the engine has not been opened yet; it is tried again.
	ErrNotOpen = errors.New("ledger is not open")
	// ErrNewer: the data was written by a newer release and is left untouched.
	ErrNewer = errors.New("ledger was written by a newer release")
	// ErrUnavailable: the engine's server cannot be reached, or is not ready. It may
	// pass by itself.
	ErrUnavailable = errors.New("ledger cannot be reached")
	// ErrSlotTaken: the slot is finished, or a later one has been started, whose
	// window covers it.
	ErrSlotTaken = errors.New("slot has been taken")
	// ErrSlotHeld: another run holds the schedule and its lease has not ended.
	ErrSlotHeld = errors.New("another run holds the slot")
	// ErrFenced: the run has lost its slot to another, or is no longer running; or
	// the node's process is no longer the one that has the node's name. It must
	// stop; nothing it does may count any more.
	ErrFenced = errors.New("fenced: another has taken its place")
	// ErrRunExists: a run with this id is known and cannot be started again.
	ErrRunExists = errors.New("run exists")
	// ErrCursor: the cursor was not given out by the method it was handed to.
	ErrCursor = errors.New("no cursor of this list")
)

// Bounds of a page. A limit out of bounds is moved to the nearest one; 0 means
// DefaultPage.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Ledger is an engine. Its methods are safe for concurrent use. Errors that are
// none of this package's say what failed; after one from a writing method that is
// not described otherwise the write may or may not have happened.
type Ledger interface {
	Claims
	Switches
	Store
	Runs
	Audits
	// Ping reports whether the ledger can be read.
	Ping(ctx context.Context) error
	// Close lets the engine's files or connections go. Calls under way end first.
	Close() error
}

// Cluster is an engine that many nodes share.
type Cluster interface {
	Ledger
	Outcomes
	Marks
	Choices
	Stock
	Registry
}

// Claims reads what the log says of users. Derived.
type Claims interface {
	// UserClaims lists a user's claims, the newest first, from before on; the
	// zero Cursor begins. A claim that the logs hold several times is listed
	// once, as it was accepted first: what it gets, Outcomes tells. Every claim
	// accepted before asOf is in the answer, later ones may be; asOf is zero where
	// nothing is known yet. next is zero where there are no more.
	UserClaims(ctx context.Context, user string, before Cursor, limit int) (claims []ClaimRow, asOf time.Time, next Cursor, err error)
	// Position is how far the ledger has taken a node's log in; 0 where it has
	// nothing of it.
	Position(ctx context.Context, node string) (fallbacklog.Position, error)
}

// Switches reads the modes that people set. Derived.
type Switches interface {
	// Switches gives the last change of each switch, by name: of one node the
	// last in its log, of several nodes the latest by their clocks. It lags as
	// the ledger does: to restore modes at a start, ask the log.
	Switches(ctx context.Context) ([]Switch, error)
}

// Page brings the limit of a list into bounds.
func Page(limit int) int {
	switch {
	case limit <= 0:
		return DefaultPage
	case limit > MaxPage:
		return MaxPage
	}
	return limit
}
