package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"manna/gift"
)

// Class is what reconciliation finds of an order.
type Class uint8

// The classes, those that need a look first.
const (
	// Unexpected: granted, and no claim in the log explains it.
	Unexpected Class = iota + 1
	// Duplicate: granted more than once, by the partner's own references.
	Duplicate
	// Mismatched: granted with another amount than was claimed.
	Mismatched
	// Missing: not final, and its lane does not have it any more.
	Missing
	// InDoubt: may have been applied, and its lane does not have it any more.
	InDoubt
	// Parked: waits for a person.
	Parked
	// Refused: the partner said no.
	Refused
	// InFlight: on its way.
	InFlight
	// Matched: granted once, with the amount that was claimed.
	Matched

	classes = int(Matched) + 1
)

var classNames = [classes]string{Unexpected: "unexpected", Duplicate: "duplicate", Mismatched: "mismatched", Missing: "missing",
	InDoubt: "unknown", Parked: "parked", Refused: "refused", InFlight: "in_flight", Matched: "matched"}

func (c Class) String() string {
	if c < Unexpected || c > Matched {
		return fmt.Sprintf("Class(%d)", uint8(c))
	}
	return classNames[c]
}

// MarshalText gives the class's name.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the class's name.
func (c *Class) UnmarshalText(text []byte) error {
	for i := Unexpected; i <= Matched; i++ {
		if classNames[i] == string(text) {
			*c = i
			return nil
		}
	}
	return fmt.Errorf("%q is no class of a reconciliation report", text)
}

// Discrepancy reports whether a line of this class is one.
func (c Class) Discrepancy() bool { return c != Matched && c != InFlight }

// Counts are numbers of orders by class.
type Counts struct {
	Matched    int64 `json:"matched"`
	InFlight   int64 `json:"in_flight"`
	Missing    int64 `json:"missing"`
	Unexpected int64 `json:"unexpected"`
	Duplicate  int64 `json:"duplicate"`
	Mismatched int64 `json:"mismatched"`
	Refused    int64 `json:"refused"`
	Parked     int64 `json:"parked"`
	Unknown    int64 `json:"unknown"`
}

// Expected is how many orders were claimed.
func (c Counts) Expected() int64 {
	return c.Actual() + c.InFlight + c.Missing + c.Unknown + c.Refused + c.Parked
}

// Actual is how many of them were granted, once or more often.
func (c Counts) Actual() int64 { return c.Matched + c.Duplicate + c.Mismatched }

// Open is how many of them nobody is delivering: what a reissue is for.
func (c Counts) Open() int64 { return c.Missing + c.Unknown }

// Discrepancies is how many lines are neither matched nor in flight.
func (c Counts) Discrepancies() int64 {
	return c.Missing + c.Unexpected + c.Duplicate + c.Mismatched + c.Refused + c.Parked + c.Unknown
}

func (c *Counts) of(class Class) *int64 {
	switch class {
	case Matched:
		return &c.Matched
	case InFlight:
		return &c.InFlight
	case Missing:
		return &c.Missing
	case Unexpected:
		return &c.Unexpected
	case Duplicate:
		return &c.Duplicate
	case Mismatched:
		return &c.Mismatched
	case Refused:
		return &c.Refused
	case Parked:
		return &c.Parked
	}
	return &c.Unknown
}

// Get is the number of orders of a class.
func (c Counts) Get(class Class) int64 { return *c.of(class) }

func (c *Counts) add(o Counts) {
	for class := Unexpected; class <= Matched; class++ {
		*c.of(class) += o.Get(class)
	}
}

// Discrepancy is an order whose books do not close.
type Discrepancy struct {
	// ID is made from class and order, so that the same break has the same id in
	// every run that finds it.
	ID      string       `json:"id"`
	Class   Class        `json:"class"`
	OrderID gift.OrderID `json:"order_id"`
	Partner string       `json:"partner"`
	// AgeS counts seconds from the claim, or from the grant where there is none.
	AgeS     int64  `json:"age_s"`
	Amount   int64  `json:"amount,omitempty"` // claimed; of an unexpected grant: granted
	Campaign string `json:"campaign,omitempty"`
	// ClaimID and Gifts are set where one claim was given two gifts. Class is Duplicate
	// then, and OrderID one of the later gift's orders, which has a class of its own.
	ClaimID gift.ClaimID `json:"claim_id,omitzero"`
	Gifts   []string     `json:"gifts,omitempty"`
	// Granted is the partner's amount where it differs from Amount.
	Granted *int64    `json:"granted,omitempty"`
	At      time.Time `json:"at"` // of the claim, or of the grant where there is none
}

func discrepancyID(class Class, id gift.OrderID) string {
	sum := sha256.Sum256(append([]byte(class.String()+"\x00"), id[:]...))
	return hex.EncodeToString(sum[:8])
}

// compareDiscrepancies puts first what needs a look first: by class, then the
// oldest.
func compareDiscrepancies(a, b Discrepancy) int {
	if a.Class != b.Class {
		return int(a.Class) - int(b.Class)
	}
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	for i := range a.OrderID {
		if a.OrderID[i] != b.OrderID[i] {
			return int(a.OrderID[i]) - int(b.OrderID[i])
		}
	}
	return 0
}

// Share is one partner's part of a report.
type Share struct {
	Partner  string `json:"partner"`
	Expected int64  `json:"expected"`
	Actual   int64  `json:"actual"`
	Backlog  int64  `json:"backlog"` // first deliveries waiting in the lane, of any slot
	Classes  Counts `json:"classes"`
}

// MaxListed is how many discrepancies a report lists; all are in its .ndjson file.
const MaxListed = 1000

// Report is what a run found and did.
type Report struct {
	Run        string    `json:"run"`
	From       time.Time `json:"from"` // claims from here
	To         time.Time `json:"to"`   // up to but not including here
	Complete   bool      `json:"complete"`
	Incomplete []string  `json:"incomplete"` // whose part is missing, and why
	// Later tells what the report says nothing of: which nodes' logs have not arrived up
	// to the run, whose end was left open and is before it for their sake.
	Later []string `json:"later,omitempty"`
	// Expected = Actual + InFlight + missing + unknown + refused + parked.
	Expected int64  `json:"expected"`
	Actual   int64  `json:"actual"`
	InFlight int64  `json:"in_flight"`
	Reissued int64  `json:"reissued"` // by this execution of the run
	Classes  Counts `json:"classes"`
	// Discrepancies lists those that need a look first, at most MaxListed.
	Discrepancies []Discrepancy `json:"discrepancies"`

	// GivenTwice is how many claims were given two gifts. They are discrepancies, and in
	// no class.
	GivenTwice int64 `json:"given_twice"`
	// Found is how many discrepancies there are, listed or not.
	Found    int64   `json:"found"`
	Campaign string  `json:"campaign,omitempty"` // only this one was looked at
	Partners []Share `json:"partners"`
	DryRun   bool    `json:"dry_run"`
	// Gate says whether the run was allowed to reissue, and why where it was not.
	Gate     string `json:"gate"`
	GateOpen bool   `json:"gate_open"`
	// OpenSince is the claim time of the oldest order that was not final.
	OpenSince time.Time `json:"open_since,omitzero"`
	// Done: the run did all that it could. One that is not done is run again.
	Done  bool      `json:"done"`
	Taken time.Time `json:"taken"` // when the run looked at the lanes
	// AsOf is when the lanes were looked at by which the orders were judged: with
	// other nodes, before all that their logs have arrived at. Zero: when it was
	// taken, or nothing could be judged missing.
	AsOf time.Time `json:"as_of,omitzero"`
	// Nodes are those whose logs were compared, this node first; empty where there is
	// no other.
	Nodes []Arrival `json:"nodes,omitempty"`
	TookS float64   `json:"took_s"`
	Rows  int64     `json:"rows"`            // index rows merged
	Files string    `json:"files,omitempty"` // path of the report's files without their endings

	whole bool // all logs are there up to To
}

// Wrong reports whether the run found something that a person has to look at.
// Orders that the partner refused or that it reissued are no such thing.
func (r *Report) Wrong() bool {
	c := r.Classes
	return !r.Complete || c.Unexpected+c.Duplicate+c.Mismatched+c.Parked+r.GivenTwice > 0 || c.Open() > r.Reissued
}

// undone says why a run that came to its end is not done.
func (r *Report) undone() string {
	var why []string
	if !r.GateOpen {
		why = append(why, "gate "+r.Gate)
	}
	if len(r.Incomplete) > 0 {
		why = append(why, "incomplete: "+strings.Join(r.Incomplete, "; "))
	}
	return strings.Join(why, "; ")
}
