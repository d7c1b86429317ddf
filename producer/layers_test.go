package producer

import (
	"context"
	"errors"
	"testing"

	"manna/fallbacklog"
	"manna/gift"
)

// knowing is what a guard shared with a node b says of b's claims, once b is
// known to have recorded them.
type knowing struct {
	Guard
	recorded map[gift.ClaimID]Recorded
}

func (k *knowing) Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error) {
	if at, ok := k.recorded[id]; ok {
		return Reservation{Recorded: at}, nil
	}
	return k.Guard.Reserve(ctx, id, siblings, limit)
}

func (k *knowing) Find(ctx context.Context, id gift.ClaimID) (Recorded, bool, error) {
	if at, ok := k.recorded[id]; ok {
		return at, true, nil
	}
	return k.Guard.Find(ctx, id)
}

// The shared guard remembers a claim of this node's log, and the log has lost it.
func TestClaimOfALostLogIsRecordedAgain(t *testing.T) {
	id := gift.NewCampaignID("spring").ClaimID("rain", "u", "")
	shared := newMemoryGuard()
	shared.Commit(id, 7)
	f := openFixture(t, func(o *Options) { o.Guard = steadfast{shared} })
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, false)
	want(t, "repeat is a duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
}

// A request that is no claim at all is not worth a call to a server.
func TestMalformedRequestAsksNoGuard(t *testing.T) {
	asked := steadfast{unasked{}}
	f := openFixture(t, func(o *Options) { o.Guard = asked })
	f.refused(Request{Campaign: "spring", User: "a\x00b"}, gift.BadRequest)
}

// unasked is a guard that nobody may ask.
type unasked struct{ Guard }

func TestLayersReserveOnceWhateverTheSharedGuardDoes(t *testing.T) {
	id := gift.ClaimID{1}
	for name, shared := range map[string]Guard{"down": brokenGuard{newMemoryGuard()}, "wiped": wiped{}} {
		l := &layers{local: newMemoryGuard(), shared: steadfast{shared}}
		first, err := l.Reserve(t.Context(), id, nil, 0)
		if (err == nil) != first.Held {
			t.Errorf("%s: Reserve = %+v, %v", name, first, err)
		}
		if r, err := l.Reserve(t.Context(), id, nil, 0); err != nil || r.Busy == nil {
			t.Errorf("%s: a second Reserve = %+v, %v, want it to be busy", name, r, err)
		}
		l.Commit(id, 5)
		if r, err := l.Reserve(t.Context(), id, nil, 0); err != nil || r.Recorded.At != 5 {
			t.Errorf("%s: Reserve after Commit = %+v, %v", name, r, err)
		}
	}
}

// wiped is a guard that forgets at once, and cannot be asked.
type wiped struct{}

func (wiped) Reserve(context.Context, gift.ClaimID, []gift.ClaimID, int) (Reservation, error) {
	return Reservation{Held: true}, nil
}
func (wiped) Commit(gift.ClaimID, fallbacklog.Position) {}
func (wiped) Release(gift.ClaimID)                      {}
func (wiped) Find(context.Context, gift.ClaimID) (Recorded, bool, error) {
	return Recorded{}, false, errors.New("no connection")
}
