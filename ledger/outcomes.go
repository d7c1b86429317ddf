package ledger

import (
	"cmp"
	"context"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// Outcomes reads where orders stand, from the logs of all nodes: any front answers
// for any claim with it. Derived; only of a store that wants outcomes.
//
// An order's claim is in one node's log and its outcomes may be in others', which
// arrive in any order. What is known of an order is a function of the records
// alone, not of when they came; Fold is that function.
type Outcomes interface {
	// Order tells where an order stands. An outcome may arrive before its claim:
	// then of Claim only what an outcome says of it is set, and ClaimedAt is zero.
	// Of several nodes' records that have it the one that Stands is its claim. Errors:
	// ErrNotFound where no log taken in says anything of it.
	Order(ctx context.Context, id gift.OrderID) (OrderRow, error)
	// Claim tells where a claim and its orders stand, of several nodes' records of it
	// the one that Stands. Errors: ErrNotFound, also where nothing but outcomes of its
	// orders has arrived.
	Claim(ctx context.Context, id gift.ClaimID) (ClaimStanding, error)
	// Lags tells how far the ledger is behind each node's log, the node that is
	// furthest behind first. Nodes that were retired are left out.
	Lags(ctx context.Context) ([]Lag, error)
}

// OrderRow is an order and where it stands.
type OrderRow struct {
	Order gift.Order
	Claim ClaimRow // without its orders
	OrderState
	// Events are what OrderState was folded of, for who knows more and folds anew.
	Events []OrderEvent
	// AsOf: whatever any node's log had before is in the answer. Zero where nothing
	// is known yet.
	AsOf time.Time
}

// ClaimStanding is a claim with its orders, in the claim's order.
type ClaimStanding struct {
	Claim  ClaimRow
	Orders []OrderState
	// Events are what Orders were folded of, and what is known of the orders of other
	// nodes' records of the claim.
	Events map[gift.OrderID][]OrderEvent
	AsOf   time.Time
}

// Settled reports whether every order is final.
func (c *ClaimStanding) Settled() bool {
	for i := range c.Orders {
		if !c.Orders[i].State.Final() {
			return false
		}
	}
	return true
}

// Lag is how far a node's log has been taken in.
type Lag struct {
	Node     string               `json:"node"`
	Position fallbacklog.Position `json:"position"`
	AsOf     time.Time            `json:"as_of,omitzero"`
}

// OrderState is where an order stands.
type OrderState struct {
	State gift.State
	// Open: an attempt began that no outcome is known of.
	Open      bool
	Attempts  int
	Queries   int
	Due       time.Time // of the next attempt; zero where the order is final
	Reference string
	Voucher   string
	Code      string
	Reason    string
	Run       string    // what reissued it last
	Updated   time.Time // time of the latest record; the claim's where there is none
	Node      string    // whose log has the outcome; "" where there is none
}

// OrderEvent is what one record says of an order.
type OrderEvent struct {
	Order     gift.OrderID
	Claim     gift.ClaimID
	Campaign  string
	Partner   string
	Node      string
	At        fallbacklog.Position
	Time      time.Time
	Kind      fallbacklog.Kind
	Attempts  int
	Queries   int
	Due       time.Time
	Reference string
	Voucher   string
	Code      string
	Reason    string
	Run       string
}

// OrderKinds are the kinds of record that an OrderEvent is made of.
func OrderKinds() []fallbacklog.Kind {
	return []fallbacklog.Kind{fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Deferred,
		fallbacklog.Unknown, fallbacklog.Parked, fallbacklog.Reissued}
}

// EventSort parts an order's records into those that replace each other. The
// numbers are stored by engines.
type EventSort uint8

const (
	SortOutcome EventSort = 1
	SortAttempt EventSort = 2
	SortReissue EventSort = 3
)

// Sort tells which records the event replaces.
func (e *OrderEvent) Sort() EventSort {
	switch e.Kind {
	case fallbacklog.Attempted:
		return SortAttempt
	case fallbacklog.Reissued:
		return SortReissue
	}
	return SortOutcome
}

// Replaces reports whether the event takes the place of an earlier one of the same
// node, order and sort. A grant is never undone.
func (e *OrderEvent) Replaces(earlier *OrderEvent) bool { return earlier.Kind != fallbacklog.Granted }

// EventsOf gives what a node's log says of one order, or several, as the ledger takes
// it in. Records that are no order's say nothing.
func EventsOf(node string, records []*fallbacklog.Record) []OrderEvent {
	b := Batch{Node: node, Outcomes: true}
	for _, rec := range records {
		b.Add(rec)
	}
	return b.Events
}

func eventOf(node string, rec *fallbacklog.Record) OrderEvent {
	e := rec.Event
	return OrderEvent{
		Order: e.Order, Claim: e.Claim, Campaign: e.Campaign, Partner: e.Partner, Node: node, At: rec.At, Time: rec.Time, Kind: rec.Kind,
		Attempts: e.Attempts, Queries: e.Queries, Due: e.Due, Reference: e.Reference, Voucher: e.Voucher, Code: e.Code, Reason: e.Reason, Run: e.Run,
	}
}

// after orders events of one order: by their place in one node's log, else by
// their clocks, and of equal times by the nodes' names.
func (e *OrderEvent) after(f *OrderEvent) bool {
	if e.Node == f.Node {
		return e.At > f.At
	}
	return cmp.Or(e.Time.Compare(f.Time), cmp.Compare(e.Node, f.Node)) > 0
}

// latest is after for choosing one among events of several nodes: of each node
// there is one, so clocks and names decide.
func latest(events []OrderEvent, sort EventSort) (last *OrderEvent) {
	for i := range events {
		if e := &events[i]; e.Sort() == sort && (last == nil || e.after(last)) {
			last = e
		}
	}
	return last
}

// latestRefusal chooses among the nodes' last outcomes.
func latestRefusal(events []OrderEvent) (last *OrderEvent) {
	for i := range events {
		if e := &events[i]; e.Kind == fallbacklog.Refused && (last == nil || e.after(last)) {
			last = e
		}
	}
	return last
}

// Fold tells an order's state from what is known of it: of each node and sort the
// event that replaced those before it. It does not depend on how events are
// arranged, and over one log says what fallbacklog.Story says.
//
// A grant is never undone; of several the first stands. Else a refusal does, for the
// partner has said its word: another node that held a late copy of the order may not
// have heard it, and writes nothing more once it has. Else the outcome of the latest
// time does, of equal times that of the node whose name sorts last. Clocks decide
// between nodes only: within a log its order does.
func Fold(events []OrderEvent) OrderState {
	s := OrderState{State: gift.StateAccepted}
	var grant *OrderEvent
	for i := range events {
		e := &events[i]
		if e.Time.After(s.Updated) {
			s.Updated = e.Time
		}
		if e.Kind == fallbacklog.Granted && (grant == nil || grant.after(e)) {
			grant = e
		}
	}
	outcome, attempt, reissue := latest(events, SortOutcome), latest(events, SortAttempt), latest(events, SortReissue)
	if refusal := latestRefusal(events); refusal != nil {
		outcome = refusal
	}
	if grant != nil {
		outcome = grant
	}
	if reissue != nil {
		s.Run = reissue.Run
	}
	if outcome != nil {
		s.State, s.Node = outcome.Kind.State(), outcome.Node
		s.Attempts, s.Queries, s.Due = outcome.Attempts, outcome.Queries, outcome.Due
		s.Reference, s.Voucher, s.Code, s.Reason = outcome.Reference, outcome.Voucher, outcome.Code, outcome.Reason
	}
	if grant != nil {
		s.Due = time.Time{}
		return s
	}
	if attempt != nil && (outcome == nil || attempt.after(outcome)) {
		s.Open, s.Attempts, s.Queries = true, attempt.Attempts, attempt.Queries
	}
	if reissue != nil && (outcome == nil || reissue.after(outcome)) {
		s.Due = reissue.Due
		if s.State == gift.StateParked {
			// It begins anew, unless it has been attempted since. That an attempt came
			// before the last reissue says nothing: an earlier one may have been its cause.
			s.State, s.Code, s.Reason = gift.StateAccepted, "", ""
			if !s.Open {
				s.Attempts, s.Queries = 0, 0
			}
		}
	}
	if s.State.Final() {
		s.Due = time.Time{}
	}
	return s
}
