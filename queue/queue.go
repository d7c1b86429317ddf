package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// ErrClosed: the queue or the lane has been closed.
var ErrClosed = errors.New("queue is closed")

// Message is one order on its way. What it says of attempts is a hint that saves
// look-ups; the log decides.
type Message struct {
	Claim *gift.Claim
	// Encoded is the claim in the format of fallbacklog.AppendClaim, where whoever made
	// the message had it at hand; else empty.
	Encoded string
	Order   gift.Order
	// Origin is the position of the order's `claimed` record in this node's log;
	// zero where the claim is in another node's.
	Origin   fallbacklog.Position
	Attempts int // calls made so far
	Queries  int
	// InDoubt: the last attempt's outcome is unknown; it began at Began.
	InDoubt bool
	Began   time.Time
	// Fresh: the engine vouches that nobody has ever held this message before, so
	// the order cannot have an outcome yet.
	Fresh bool
	// Handle is the engine's own.
	Handle any
}

// Queue is an engine. Its methods are safe for concurrent use.
type Queue interface {
	// Lane opens a partner's lane, creating it where it is missing. A lane is
	// opened once; opening it again is an error.
	Lane(ctx context.Context, partner string) (Lane, error)
	// Send puts messages into their lanes beside the first deliveries: what is
	// reissued or settled now. Their `reissued` records are in the log already.
	// It returns when they cannot be lost any more. Those of a lane that is refused
	// do not hold up the others: the error is a LaneRefusedError then.
	Send(ctx context.Context, msgs ...*Message) error
	// Close hands everything that is held back and writes down what saves work
	// after a restart. Lanes fail with ErrClosed from then on.
	Close(ctx context.Context) error
}

// Lane is one partner's stream. Its methods are safe for concurrent use.
type Lane interface {
	// Receive waits for the next message. The number of messages held is bounded
	// by their holder, who acknowledges or defers each.
	Receive(ctx context.Context) (*Message, error)
	// Ack lets a message go for good.
	Ack(ctx context.Context, m *Message) error
	// Defer puts the message back to be received at due, and lets this one go.
	// m's Attempts, Queries, InDoubt and Began are those of the next delivery.
	Defer(ctx context.Context, m *Message, due time.Time) error
	// Status tells what is in the lane.
	Status(ctx context.Context) (Status, error)
	// Close ends the lane; what is held is received again when it is reopened.
	Close() error
}

// Status is what is in a lane at one moment. The watermarks are what "in flight"
// means to the reconciler: every message that the lane has not let go is covered
// by one of them.
type Status struct {
	Backlog  int64 `json:"backlog"`  // first deliveries waiting; exact or, far behind, an estimate
	Deferred int64 `json:"deferred"` // messages waiting for their due time, or due and waiting
	Held     int64 `json:"held"`     // received, neither acknowledged nor deferred
	// Aside is how many messages the engine keeps that it has put aside, because this
	// release, or nobody, can read them.
	Aside int64 `json:"aside,omitempty"`
	// Oldest is the claim time of the oldest first delivery that has not been let
	// go: an order claimed at or after it may still be in the lane. The zero time
	// means that there is none, and then every order claimed at or after AsOf may
	// be.
	Oldest time.Time `json:"oldest,omitzero"`
	// OldestSeen is the claim time of the oldest first delivery among those that were
	// looked at, which is how long one waits; of an engine that cannot look at all of
	// them Oldest may be earlier. Zero where Oldest is.
	OldestSeen time.Time `json:"oldest_seen,omitzero"`
	// OldestDue is the earliest due time of a deferred message that has not been
	// let go: an order whose due time is at or after it may still be in the lane.
	// The due time of a reissued order is that of its `reissued` record, or later.
	// The zero time means that there is none.
	OldestDue time.Time `json:"oldest_due,omitzero"`
	// AsOf is when this was true. What was stamped before it and appended to the
	// log after Status had been called is not covered: whoever compares the log
	// with a Status takes the log's end first.
	AsOf time.Time `json:"as_of"`
}

// Feedable is an engine that has to be fed from the log.
type Feedable interface {
	// Feed hands over first deliveries in order of age, and returns when the last of
	// them is on its way. confirmed waits for the engine, and gives nil only where that
	// has confirmed all of them; after an error any part may have been taken, and all are
	// fed again. A RefusedError or LaneRefusedError says which never can be. The messages
	// and ctx are the engine's until confirmed has returned. Feed is safe for concurrent
	// use: the next messages may be on their way before the last are confirmed. What has
	// been handed over is sent, or has failed, also where nobody asks.
	Feed(ctx context.Context, msgs []*Message) (confirmed func() error)
}

// RefusedError: the engine can never take an order, however often it is fed.
// Whoever feeds it parks the order, so that a person looks at it, and goes on with
// the rest.
type RefusedError struct {
	Order gift.OrderID
	Err   error // why, and what would help
}

func (e *RefusedError) Error() string { return fmt.Sprintf("order %v: %v", e.Order, e.Err) }

// Unwrap gives the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// LaneRefusedError: the engine takes nothing for a partner until a person has put
// right what it says, and waiting does not help. Whoever feeds it parks that
// partner's orders and goes on with the rest.
type LaneRefusedError struct {
	Partner string
	Err     error // why, and what would help
}

func (e *LaneRefusedError) Error() string { return fmt.Sprintf("partner %s: %v", e.Partner, e.Err) }

// Unwrap gives the reason.
func (e *LaneRefusedError) Unwrap() error { return e.Err }
