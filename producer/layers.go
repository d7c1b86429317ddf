package producer

import (
	"context"
	"errors"

	"manna/fallbacklog"
	"manna/gift"
)

// layers is the guard of one node among several: what its own log knows in front,
// and behind it the guard that all nodes share. The shared one is a hint, which
// may be wiped, and the own one is not: a claim of this node's log is never
// accepted twice, whatever becomes of the other.
type layers struct {
	local  *memoryGuard
	shared SharedGuard
}

// Reserve implements Guard. Whatever the shared guard does, no two requests of
// this node hold a claim at a time.
func (l *layers) Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error) {
	r, err := l.local.Reserve(ctx, id, siblings, limit)
	if err != nil || !r.Held {
		return r, err
	}
	r, err = l.shared.Reserve(ctx, id, siblings, limit)
	switch {
	case r.Held && err == nil:
		return r, nil
	case err != nil && !refuses(err):
		return Reservation{}, err // the local reservation stays: the claim goes on
	case err == nil && r.Busy == nil && r.Recorded.Node == "":
		// The shared guard remembers what this node's log, which is asked first, does
		// not have: a disk was lost. The claim is to be recorded again, unless others know
		// of it.
		return Reservation{Held: true, Unsure: true}, nil
	}
	l.local.Release(id)
	return r, err
}

// refuses tells a refusal from a guard that is down.
func refuses(err error) bool {
	_, ok := errors.AsType[*gift.Error](err)
	return ok
}

// Commit implements Guard.
func (l *layers) Commit(id gift.ClaimID, at fallbacklog.Position) {
	l.local.Commit(id, at)
	l.shared.Commit(id, at)
}

// Release implements Guard. The shared reservation goes first: a request of this
// node that the local one lets in must not meet it.
func (l *layers) Release(id gift.ClaimID) {
	l.shared.Release(id)
	l.local.Release(id)
}

// Find implements Guard.
func (l *layers) Find(ctx context.Context, id gift.ClaimID) (Recorded, bool, error) {
	if at, ok := l.local.find(id); ok {
		return Recorded{At: at}, true, nil
	}
	at, ok, err := l.shared.Find(ctx, id)
	if at.Node == "" {
		return Recorded{}, false, err // of a log that is lost
	}
	return at, ok, err
}
