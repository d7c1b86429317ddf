package ledger

import (
	"context"
	"time"

	"manna/gift"
)

// Choices decides which gift a claim gets that several fronts have recorded, each with
// another one: the guard that keeps such claims apart is a hint, and may have failed.
// Whoever is about to make the first call for an order asks before it. Kept here alone;
// durable when a call returns nil.
//
// Commit point of a claim's gift: Choose returns nil for the first that asks.
type Choices interface {
	// Choose fixes the gift of each claim that has none yet, in one statement for all of
	// them, and gives the choices that stand, in the same order. Of two of one claim in
	// one call one stands. After an error it is not known which were fixed; asking again
	// is harmless, and gives the same.
	Choose(ctx context.Context, choices []Choice) (stand []Choice, err error)
	// SweepChoices removes about limit choices that were made before the given time. The
	// caller chooses it so that no order of those claims can turn up any more.
	SweepChoices(ctx context.Context, before time.Time, limit int) (removed int64, err error)
}

// MaxChoices is how many choices one call takes.
const MaxChoices = 10_000

// Choice is what a claim gets.
type Choice struct {
	Claim  gift.ClaimID
	Gift   string // its name
	Orders []gift.OrderID
}
