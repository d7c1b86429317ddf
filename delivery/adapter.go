package delivery

import (
	"context"
	"time"

	"manna/gift"
)

// Adapter calls one partner. Its methods are safe for concurrent use and return
// within the partner's timeout.
type Adapter interface {
	// Grant makes one attempt to hand the order's item over. A cancelled ctx
	// ends the call early; once bytes may have left, that is Unknown.
	Grant(ctx context.Context, claim *gift.Claim, order gift.Order) gift.Outcome
	// Query asks the partner where an order stands. It is called only where
	// Traits().Queries is true.
	Query(ctx context.Context, id gift.OrderID) Standing
	// Traits says what the partner can do.
	Traits() Traits
	// Close lets go of idle connections. Calls under way finish.
	Close()
}

// Traits are what the unknown-outcome protocol has to know of a partner.
type Traits struct {
	// Idempotent: the partner dedupes by order id, so that a repeat with the
	// same key is harmless.
	Idempotent bool
	// Queries: the partner answers where an order stands.
	Queries bool
	// Timeout bounds one call.
	Timeout time.Duration
	// SettlesWithin is the time after the beginning of an attempt from which on
	// a query's None is believed: before that the call may still be on its way.
	SettlesWithin time.Duration
}

// Standing is a partner's answer to a query: exactly one of Settled, Pending,
// None and Unanswered.
type Standing interface{ standing() }

// Settled: the partner has granted or refused the order. Outcome is a
// gift.Granted or a gift.Refused.
type Settled struct{ Outcome gift.Outcome }

// Pending: the partner has the order and has not decided.
type Pending struct{}

// None: the partner does not know the order. Believed only once SettlesWithin
// has passed since the attempt began.
type None struct{}

// Unanswered: the query itself failed; nothing is known that was not before.
type Unanswered struct {
	Code, Reason string
	After        time.Duration // the partner asked for this pause; 0 where it did not
}

func (Settled) standing()    {}
func (Pending) standing()    {}
func (None) standing()       {}
func (Unanswered) standing() {}

// Healthy reports whether the outcome speaks for the partner being well. A
// refusal does: the partner answered. Everything that is not a decision counts
// against it.
func Healthy(o gift.Outcome) bool {
	switch o.(type) {
	case gift.Granted, gift.Refused:
		return true
	}
	return false
}
