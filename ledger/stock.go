package ledger

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

var (
	// ErrHeld: the node's stock cannot be settled by others, for it has neither
	// left nor been declared lost, and may still be handing gifts out.
	ErrHeld = errors.New("the node may still be handing out its stock")
	// ErrLeaseChanged: the lease is not as the caller last saw it. Nothing was
	// changed; Leases tells how it is.
	ErrLeaseChanged = errors.New("the lease has changed")
	// ErrOverdrawn: a log shows more gifts handed out than its node had leased, as
	// after it was settled by an incomplete log. The lease has been raised to that, so
	// that nobody hands the difference out again.
	ErrOverdrawn = errors.New("more was handed out than was leased")
)

// Stock parts a gift's stock among nodes. Kept here alone; durable when a call
// returns nil.
//
// A node's lease is how many of a gift it may hand out altogether, since the
// campaign began; how many it did hand out is in its log and nowhere else. The sum
// of all leases is never raised above the total and the refunds, so the stock is
// never exceeded, whoever dies when:
//
//	a node dies            its lease stays its own; others have the rest
//	the node is back       it goes on with the same lease: what is left of it is
//	                       the lease less what its log says was handed out
//	it left, or a person   Settle cuts the lease to what its whole log says, and
//	declared it lost       the rest is everybody's; with the log gone nothing is
//	                       cut, because all of it may have been handed out
//	another log takes      the lease stays with the log that is gone, as Former's, and
//	its name               the new one begins with none
//
// A node makes one call at a time for a lease.
type Stock interface {
	// Lease raises a node's lease to what is asked for, or as near to it as the stock
	// has; it never lowers it. After an error the lease may have been raised; asking
	// again is harmless. Errors: ErrFenced; ErrOverdrawn, with which the lease is
	// raised to what was used.
	Lease(ctx context.Context, k StockKey, h Holder, ask Ask) (Lease, error)
	// Return lowers a node's lease to keep, which must not be less than what the
	// node has handed out. seen is the lease as the node knows it. After an error
	// that is not ErrLeaseChanged or ErrFenced the lease may become keep at any
	// later moment: until a Lease of the node has succeeded it counts as keep.
	// Errors: ErrFenced, ErrLeaseChanged.
	Return(ctx context.Context, k StockKey, h Holder, seen Lease, keep int64) (Lease, error)
	// Refund puts gifts back into the stock that were handed out and came to
	// nothing. A claim's gift is refunded once, however often it is asked for and by
	// whom.
	Refund(ctx context.Context, refunds []Refund) error
	// Weigh has RefundRefused look at claims that several nodes have recorded: each took
	// a gift from the stock, and one is given.
	Weigh(ctx context.Context, claims []gift.ClaimID) error
	// RefundRefused refunds the gifts that came to nothing by what the logs say that
	// were taken in: of a claim and a gift, as many as nodes recorded, less one where
	// not every order has been refused, or one has been granted. It weighs up to limit
	// of the refusals and claims that came in since it was called last, and says how
	// many that were; fewer than limit means that there are no more for now. Each refusal is weighed when all that was taken in before it can be seen, so of
	// a claim's orders the last one to be refused finds the others, whatever crashed
	// meanwhile. Anybody may call it at any time. After an error part of it may have
	// happened; calling again is harmless.
	RefundRefused(ctx context.Context, limit int) (weighed int, err error)
	// Settle says how much a node that is gone has handed out, by its whole log, and
	// frees the rest of its lease. Repeating it, also with a better number, is
	// harmless. h is the last process that wrote the log; where the node's name has gone
	// to another log since, h.Node is Former's. With epoch 0 it is whichever was the
	// last. Errors: ErrHeld, ErrLeaseChanged where another process has joined since,
	// ErrNotFound where the node has no lease, ErrOverdrawn, with which the number was
	// taken all the same.
	Settle(ctx context.Context, k StockKey, h Holder, used int64) (Lease, error)
	// Leases gives a gift's pool and its leases, by node.
	Leases(ctx context.Context, k StockKey) (Pool, []Lease, error)
	// Estate gives all leases of a node, or of one of Former's, by campaign and gift,
	// with what is known of the log that says how much of them was handed out. Errors:
	// ErrNotFound where there is no such node.
	Estate(ctx context.Context, holder string) (Estate, error)
}

// Estate is what a node holds of the common stock, and what is known of its log.
type Estate struct {
	// Holder is the last process that wrote the log. Former's has epoch 0.
	Holder Holder
	// State is the node's; empty for one of Former's, which nobody is any more.
	State NodeState
	// Home is that of the log, as in Process. It is empty where the log can not be told
	// from another of the same home: Former's, after a process joined with a short log.
	Home string
	// LogEnd and Ended are as in Node.
	LogEnd fallbacklog.Position
	Ended  bool
	Leases []GiftLease
	// Formers are the names of Former's leases of the same node; none for Former's own.
	Formers []string
}

// GiftLease is a lease with the gift that it is of.
type GiftLease struct {
	StockKey
	Lease
}

// Former names the holder of a lease whose node's name has gone to another log:
// nobody, so that it is counted as handed out for good, or until Settle cuts it to
// what the old log says. epoch is that of the last process with that log. Should the
// old log take the name back after all, it begins without a lease too: what it used
// is then counted twice until Former's is settled with 0.
func Former(node string, epoch int64) string { return node + formerMark + strconv.FormatInt(epoch, 10) }

// IsFormer reports whether a name is one of Former's, which no process may have.
func IsFormer(node string) bool { return strings.Contains(node, formerMark) }

// FormerOf gives the node whose name has gone to another log; ok is false where the name
// is none of Former's.
func FormerOf(former string) (node string, ok bool) {
	node, _, ok = strings.Cut(former, formerMark)
	return node, ok
}

// formerMark is in no node's name; see gift.CheckName.
const formerMark = "@"

// StockKey names a gift.
type StockKey struct{ Campaign, Gift string }

// Holder is a node's process, as Registry.Join made it known.
type Holder struct {
	Node  string
	Epoch int64
}

// Ask is how much of a stock a node wants to hold.
type Ask struct {
	Total int64 // of the stock, as it is configured now
	Used  int64 // how many the node has handed out, by its log
	UpTo  int64 // how many it wants to be allowed altogether
}

// Lease is a node's share of a stock.
type Lease struct {
	Node string
	// Held is how many the node may hand out altogether.
	Held int64
	// Version counts the lease's changes.
	Version int64
	Updated time.Time
}

// Pool is a stock as a whole.
type Pool struct {
	Held     int64 // by all leases
	Refunded int64
}

// Free is what is left of a total.
func (p Pool) Free(total int64) int64 { return max(0, total+p.Refunded-p.Held) }

// Refund is a gift that came back.
type Refund struct {
	StockKey
	Claim gift.ClaimID
	Count int64
}
