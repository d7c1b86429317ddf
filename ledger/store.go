package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// Store is what the Follower writes to: the derived part of a ledger.
type Store interface {
	// Place tells how far a node's log has been taken in; the zero Place where
	// nothing has been.
	Place(ctx context.Context, node string) (Place, error)
	// Apply takes a batch in, all of it or nothing, together with the place
	// behind it. A claim that is known already stays as it is. Durable when the
	// ledger says so: losing the last batches to a crash of the machine is
	// allowed, for the place is lost with them. Errors: ErrMoved, ErrDamaged;
	// after any other error the batch may have been applied, and Place tells.
	Apply(ctx context.Context, b *Batch) error
	// Seen notes that a node's log had nothing more at asOf. It need not survive
	// a restart.
	Seen(ctx context.Context, node string, asOf time.Time) error
	// Reset drops all that was derived from a node's log; where the engine's data
	// is damaged it may drop that of all nodes. What is kept here alone stays.
	Reset(ctx context.Context, node string) error
	// WantsOutcomes reports whether batches are to have the orders of claims and
	// what became of them; it never changes. A store that does not want them is
	// spared reading the records.
	WantsOutcomes() bool
}

// Place is how far a node's log has been taken in.
type Place struct {
	Position fallbacklog.Position // everything before it
	Mark     Mark                 // of the last record among that
	AsOf     time.Time            // every claim accepted before is among that
}

// Mark recognises a record: the log that was followed has it there.
type Mark struct {
	At  fallbacklog.Position // 0 where no record has been taken in
	Sum [16]byte
}

// MarkOf gives a record's mark.
func MarkOf(rec *fallbacklog.Record) Mark {
	b := binary.LittleEndian.AppendUint64([]byte{byte(rec.Kind)}, uint64(rec.Time.UnixNano()))
	switch {
	case rec.Claim != nil:
		b = append(b, rec.Claim.ID[:]...)
	case rec.Event != nil:
		b = append(b, rec.Event.Order[:]...)
	case rec.Switch != nil:
		b = append(b, rec.Switch.Name...)
	}
	sum := sha256.Sum256(b)
	return Mark{At: rec.At, Sum: [16]byte(sum[:16])}
}

// Batch is a stretch of one node's log.
type Batch struct {
	Node     string
	From     fallbacklog.Position // the ledger's place before it
	Through  Place                // the ledger's place behind it
	Claims   []ClaimRow           // in the order of the log
	Switches []Switch             // in the order of the log
	// Outcomes: claims come with their orders, and Events are there. Set before Add.
	Outcomes bool
	// Events has of each order and sort the one event that replaced those before it
	// in the batch.
	Events []OrderEvent
	// Returned are the gifts that the node has put back into a stock of its own: the
	// common one is not to have them too. Only with Outcomes.
	Returned []Refund

	events map[eventKey]int // where in Events
	read   int              // records that Events is made of
}

type eventKey struct {
	order gift.OrderID
	sort  EventSort
}

// Add takes a record in and moves the batch's mark and time on. Records that
// nothing is derived from only do the latter.
func (b *Batch) Add(rec *fallbacklog.Record) {
	b.Through.Mark = MarkOf(rec)
	if rec.Time.After(b.Through.AsOf) {
		b.Through.AsOf = rec.Time
	}
	switch {
	case rec.Claim != nil:
		c := rec.Claim
		row := ClaimRow{
			ID: c.ID, User: c.User, Campaign: c.Campaign, Scene: c.Scene, Stage: c.Stage,
			Gift: c.Gift, ClaimedAt: c.ClaimedAt, Node: b.Node, At: rec.At,
		}
		if b.Outcomes {
			row.DeliverBy, row.Orders = c.DeliverBy, c.Orders
		}
		b.Claims = append(b.Claims, row)
	case rec.Event != nil && b.Outcomes:
		b.addEvent(eventOf(b.Node, rec))
	case rec.Kind == fallbacklog.Returned && b.Outcomes && !rec.Stock.Claim.IsZero():
		s := rec.Stock
		b.Returned = append(b.Returned, Refund{StockKey: StockKey{Campaign: s.Campaign, Gift: s.Gift}, Claim: s.Claim, Count: s.Count})
	case rec.Switch != nil:
		b.Switches = append(b.Switches, Switch{Switch: *rec.Switch, Time: rec.Time, Node: b.Node, At: rec.At})
	}
}

func (b *Batch) addEvent(e OrderEvent) {
	b.read++
	key := eventKey{e.Order, e.Sort()}
	i, known := b.events[key]
	switch {
	case !known:
		if b.events == nil {
			b.events = make(map[eventKey]int)
		}
		b.events[key] = len(b.Events)
		b.Events = append(b.Events, e)
	case e.Replaces(&b.Events[i]):
		b.Events[i] = e
	}
}

// Records is the number of records that something is derived from.
func (b *Batch) Records() int { return len(b.Claims) + len(b.Switches) + len(b.Returned) + b.read }
