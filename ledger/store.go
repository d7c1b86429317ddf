package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"manna/fallbacklog"
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
		b.Claims = append(b.Claims, ClaimRow{
			ID: c.ID, User: c.User, Campaign: c.Campaign, Scene: c.Scene, Stage: c.Stage,
			Gift: c.Gift, ClaimedAt: c.ClaimedAt, Node: b.Node, At: rec.At,
		})
	case rec.Switch != nil:
		b.Switches = append(b.Switches, Switch{Switch: *rec.Switch, Time: rec.Time, Node: b.Node, At: rec.At})
	}
}

// Records is the number of records that something is derived from.
func (b *Batch) Records() int { return len(b.Claims) + len(b.Switches) }
