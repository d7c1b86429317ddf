package producer

import (
	"context"
	"iter"

	"manna/fallbacklog"
	"manna/gift"
)

// NewMemoryGuard is the guard of one process, for the suite of all guards.
func NewMemoryGuard() Guard { return newMemoryGuard() }

// NewLayers is the guard of one node among several.
func NewLayers(shared Guard) Guard {
	return &layers{local: newMemoryGuard(), shared: steadfast{shared}}
}

// steadfast is a shared guard that forgets nothing.
type steadfast struct{ Guard }

func (steadfast) Remind(ctx context.Context, _ iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	<-ctx.Done()
}
