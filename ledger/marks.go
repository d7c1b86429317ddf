package ledger

import (
	"context"
	"time"

	"manna/gift"
)

// Marks decides, for partners that cannot dedupe, which of several consumers may
// make an attempt. Over a cluster two may hold one order (a rebalance, a second
// delivery, a reissue); each marks the attempt before its call, and the mark has
// one row for an order and a number of attempt. Kept here alone; durable when a
// call returns nil.
//
// Commit point of an attempt: Mark returns nil and Standing.Won. Whoever did not
// win makes no call with that number.
//
// Marks are kept after the attempt has ended, for a stale copy of the order may
// turn up much later; only Sweep removes them.
type Marks interface {
	// Mark writes one mark for each attempt, in one statement for all of them, and
	// gives the standings in the same order. An attempt is not won that is marked
	// already, that is below one which is, or whose order has been granted; its
	// standing tells what stands in the way. Of attempts that are equal in one call
	// the first may win.
	//
	// After an error it is not known which marks were written. Asking again is
	// harmless: a mark that the first call wrote stands as the caller's own, which
	// Standing.Repeats tells.
	Mark(ctx context.Context, attempts []Attempt) ([]Standing, error)
	// Conclude notes how marked attempts ended, after the outcome is in the log. It
	// replaces any earlier conclusion except a grant, and is harmless when
	// repeated. An attempt that was never marked is noted all the same, as a grant
	// that a query found has to be.
	Conclude(ctx context.Context, ends []Conclusion) error
	// Release takes marks back whose calls were never made, so that their numbers
	// can be used again. Marks of other holders, and concluded ones, stay.
	Release(ctx context.Context, attempts []Attempt) error
	// Highest gives the marked attempt with the highest number of each order that
	// has one; of an order that was granted the granted one.
	Highest(ctx context.Context, orders []gift.OrderID) (map[gift.OrderID]Standing, error)
	// Sweep removes all marks of orders, of about limit at a time, whose last
	// attempt has ended finally and of which nothing was noted since the given time.
	// The caller chooses it so that no copy of those orders can turn up any more.
	Sweep(ctx context.Context, before time.Time, limit int) (removed int64, err error)
}

// MaxMarks is how many attempts one call of Marks takes.
const MaxMarks = 10_000

// Attempt is a call to a partner that is about to be made.
type Attempt struct {
	Order gift.OrderID
	// Number counts the attempts of the order from 1, this one included, over its
	// whole life: where a person takes a parked order up again and the order's own
	// count begins anew, it goes on from Highest.
	Number  int
	Partner string
	Node    string
	Epoch   int64 // of the node's process, as Registry.Join gave it
	Began   time.Time
}

// Standing is what stands at an attempt's number.
type Standing struct {
	// Won: the mark was made by this call, and the attempt may begin.
	Won bool
	// Mark is the mark that stands: the caller's own where it won, else of an order
	// that was granted the granted one, and of others the one with the highest number.
	Mark Attempt
	// Parked is the highest number of the order's attempts that ended parked, 0 where
	// none did: an order that a person took up since counts its attempts from there.
	// Not told where Won.
	Parked int
	// Concluded is how that attempt ended; zero while nothing is known, and then
	// Time is too.
	Concluded gift.State
	Time      time.Time
}

// Repeats reports whether the mark that stands was made by the process that asks:
// it knows from its own memory whether it made the call. A mark of the same node
// and another epoch is one that an earlier process left, and in doubt as any
// other's.
func (s Standing) Repeats(a Attempt) bool {
	return s.Mark.Order == a.Order && s.Mark.Number == a.Number && s.Mark.Node == a.Node && s.Mark.Epoch == a.Epoch
}

// Conclusion is how an attempt ended.
type Conclusion struct {
	Attempt
	State gift.State // deferred, unknown, granted, refused or parked
}
