package gift

import "time"

// Outcome is what one attempt at a partner came to: exactly one of Granted,
// Refused, Deferred and Unknown. Adapters return an Outcome, never an error, so
// that nobody can mistake "it failed" for "it was not applied".
type Outcome interface {
	// State is the state the order is in after this outcome.
	State() State
	outcome()
}

// Granted: the partner handed the gift over. Final.
type Granted struct {
	Reference string // the partner's own number for it
	Voucher   string // what the user redeems, where there is one
	Before    bool   // the partner had granted this key before
	// Amount is what the partner says it handed over, in the smallest unit of
	// the order's currency; nil where it does not say. A difference from the
	// order's amount is a discrepancy.
	Amount *int64
}

// Refused: the partner will never grant this order. Final.
type Refused struct {
	Code   string // the partner's code
	Reason string // the partner's words
}

// Deferred: the attempt was certainly not applied and may be made again.
type Deferred struct {
	Code   string        // "busy", "unreachable", "misconfigured", …
	Reason string        // for people
	After  time.Duration // the partner asked for this pause; 0 where it did not
}

// Unknown: the attempt may have been applied. It is never blindly retried.
type Unknown struct {
	Code   string // "timeout", "reset", "server_error", "unreadable", …
	Reason string // for people
}

func (Granted) State() State  { return StateGranted }
func (Refused) State() State  { return StateRefused }
func (Deferred) State() State { return StateDeferred }
func (Unknown) State() State  { return StateUnknown }

func (Granted) outcome()  {}
func (Refused) outcome()  {}
func (Deferred) outcome() {}
func (Unknown) outcome()  {}
