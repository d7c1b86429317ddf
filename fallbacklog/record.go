package fallbacklog

import (
	"crypto/sha256"
	"fmt"
	"time"

	"manna/gift"
)

// Kind says what a record tells. The numbers are part of the format.
type Kind uint8

const (
	Claimed   Kind = 1  // a claim was accepted, with its orders
	Sent      Kind = 2  // a watermark: the queue has everything before it
	Attempted Kind = 3  // an attempt is about to begin at a partner that cannot dedupe
	Granted   Kind = 4  // outcome
	Refused   Kind = 5  // outcome
	Deferred  Kind = 6  // outcome, with the time when it is due again
	Unknown   Kind = 7  // outcome, with the time when it is looked at again
	Parked    Kind = 8  // nothing more is tried; a person is needed
	Reissued  Kind = 9  // the order was put into its lane again, by whom
	Leased    Kind = 10 // stock taken from the common pool
	Returned  Kind = 11 // stock given back
	Switched  Kind = 12 // a person changed a breaker's mode
	Lost      Kind = 13 // records were lost to damage, and a repair could not bring them back

	kinds = 16 // room for kinds in a footer
)

var kindNames = [...]string{Claimed: "claimed", Sent: "sent", Attempted: "attempted", Granted: "granted", Refused: "refused",
	Deferred: "deferred", Unknown: "unknown", Parked: "parked", Reissued: "reissued", Leased: "leased", Returned: "returned", Switched: "switched", Lost: "lost"}

func (k Kind) String() string {
	if k.valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// State is where an outcome of this kind leaves an order; of other kinds, accepted.
func (k Kind) State() gift.State {
	switch k {
	case Granted:
		return gift.StateGranted
	case Refused:
		return gift.StateRefused
	case Deferred:
		return gift.StateDeferred
	case Unknown:
		return gift.StateUnknown
	case Parked:
		return gift.StateParked
	}
	return gift.StateAccepted
}

func (k Kind) valid() bool { return k >= Claimed && k <= Lost }

// MarshalText gives the name of the kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParseKind reads the name of a kind.
func ParseKind(s string) (Kind, error) {
	for k := Claimed; k <= Lost; k++ {
		if kindNames[k] == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%q is no kind of record: want one of %v", s, kindNames[1:])
}

// Record is one entry of the log. Exactly one of the pointers is set, as Kind
// says; a record that has been appended or read is not changed any more.
type Record struct {
	At   Position  `json:"at"` // set by Append and by readers
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"` // wall clock of the node; data, never ordering

	Claim  *gift.Claim `json:"claim,omitempty"`  // Claimed
	Event  *Event      `json:"event,omitempty"`  // Attempted … Reissued
	Sent   *Watermark  `json:"sent,omitempty"`   // Sent
	Stock  *Stock      `json:"stock,omitempty"`  // Leased, Returned
	Switch *Switch     `json:"switch,omitempty"` // Switched
	Loss   *Loss       `json:"loss,omitempty"`   // Lost
}

// Event is something that happened to an order.
type Event struct {
	Order    gift.OrderID `json:"order_id"`
	Claim    gift.ClaimID `json:"claim_id"`
	Campaign string       `json:"campaign"`
	Partner  string       `json:"partner"`
	// Origin is the position of the order's `claimed` record in this log; zero
	// where the claim is in another node's log.
	Origin Position `json:"origin,omitzero"`
	// Attempts and Queries count the calls made for the order so far, this one
	// included.
	Attempts int `json:"attempts,omitempty"`
	Queries  int `json:"queries,omitempty"`
	// Began is when the last attempt began: what SettlesWithin counts from.
	Began time.Time `json:"began,omitzero"`
	// Due is when a deferred or unknown order is looked at again.
	Due       time.Time `json:"due,omitzero"`
	Reference string    `json:"reference,omitempty"`
	Voucher   string    `json:"voucher,omitempty"`
	// Amount is what was granted: the partner's word, or the order's amount.
	Amount int64  `json:"amount,omitempty"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Run is what caused a reissue: a reconciliation run, a settle request or a
	// person.
	Run string `json:"run,omitempty"`
}

// What a reissue's Run begins with where it is not the name of a reconciliation
// run.
const (
	// RunPerson: a person has taken a parked order up again, knowing its story.
	RunPerson = "person:"
	// RunHand: a person has put an order into its lane that was on its way.
	RunHand = "hand:"
	// RunSettle: a user asked to have the claim settled now.
	RunSettle = "settle"
)

// Watermark says that everything before Through has been handed to the queue.
type Watermark struct {
	Queue   string   `json:"queue"`
	Through Position `json:"through"`
}

// Stock moves gifts between the common pool and a node, or from an order that
// was refused back to the stock.
type Stock struct {
	Campaign string       `json:"campaign"`
	Gift     string       `json:"gift"`
	Count    int64        `json:"count"`
	Claim    gift.ClaimID `json:"claim_id,omitzero"` // Returned: the claim it came from, if it was one
	Reason   string       `json:"reason,omitempty"`
}

// Switch is a change of a breaker's mode by a person.
type Switch struct {
	Name string `json:"name"` // the breaker's name
	Mode string `json:"mode"` // automatic, held_open, held_closed
	Who  string `json:"who"`
	Why  string `json:"why"`
}

// NamedID is the id under which the index files records that belong to a name
// rather than to an order or claim: switches by breaker, watermarks by queue,
// stock by campaign and gift.
func NamedID(kind Kind, name string) [16]byte {
	sum := sha256.Sum256([]byte(kind.String() + "\x00" + name))
	return [16]byte(sum[:16])
}
