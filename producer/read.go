package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// readAt reads the claim recorded at a position, with its orders' states now.
func (f *Front) readAt(id gift.ClaimID, at fallbacklog.Position) (Answer, error) {
	rec, err := f.log.Read(at)
	if err != nil {
		return Answer{}, err
	}
	if rec.Claim == nil || rec.Claim.ID != id {
		return Answer{}, fmt.Errorf("record %v is not claim %v", at, id)
	}
	a := Answer{Claim: rec.Claim, States: make([]gift.State, len(rec.Claim.Orders)), Receipt: f.receipts.of(rec.Claim)}
	for i, o := range rec.Claim.Orders {
		rows, err := f.log.Lookup(o.ID)
		if err != nil {
			return Answer{}, err
		}
		a.States[i], _ = fallbacklog.StateOf(rows)
	}
	return a, nil
}

// Read gives a claim with its orders' states now; the error has the code
// gift.NotFound where the log has no such claim.
func (f *Front) Read(id gift.ClaimID) (Answer, error) {
	rows, err := f.log.Lookup(id)
	if err != nil {
		return Answer{}, err
	}
	i := slices.IndexFunc(rows, func(r fallbacklog.Row) bool { return r.Kind == fallbacklog.Claimed && r.OfClaim })
	if i < 0 {
		return Answer{}, gift.Errorf(gift.NotFound, "there is no claim %v", id)
	}
	return f.readAt(id, rows[i].At)
}

// OrderRead is how an order reads over HTTP, for users and for operators alike.
type OrderRead struct {
	OrderID   gift.OrderID `json:"order_id"`
	ClaimID   gift.ClaimID `json:"claim_id"`
	Campaign  string       `json:"campaign"`
	Scene     string       `json:"scene"`
	User      string       `json:"user"`
	Gift      string       `json:"gift"`
	Item      string       `json:"item"`
	Partner   string       `json:"partner"`
	State     gift.State   `json:"state"`
	Attempts  int          `json:"attempts"`
	Reference string       `json:"reference,omitempty"`
	Voucher   string       `json:"voucher,omitempty"`
	Code      string       `json:"code,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	// NextAttemptAt is when a deferred or unknown order is due again.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	ClaimedAt     time.Time `json:"claimed_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

// ReadOrder tells where an order stands.
func ReadOrder(s *fallbacklog.Story) OrderRead {
	o := OrderRead{
		OrderID: s.Order.ID, ClaimID: s.Claim.ID, Campaign: s.Claim.Campaign, Scene: s.Claim.Scene, User: s.Claim.User,
		Gift: s.Claim.Gift, Item: s.Order.Item, Partner: s.Order.Partner, State: s.State, Attempts: s.Attempts,
		Reference: s.Reference, Voucher: s.Voucher, Code: s.Code, Reason: s.Reason,
		ClaimedAt: s.Claim.ClaimedAt, UpdatedAt: s.Updated,
	}
	if !s.State.Final() {
		o.NextAttemptAt = s.Due
	}
	return o
}

// story tells an order's story; the error has the code gift.NotFound where the
// log has no such order.
func (f *Front) story(id gift.OrderID) (*fallbacklog.Story, error) {
	s, err := f.log.Order(id)
	if errors.Is(err, fallbacklog.ErrNotFound) {
		return nil, gift.Errorf(gift.NotFound, "there is no order %v", id)
	}
	return s, err
}

const (
	// maxPlaces bounds in how many stages one request looks for a user's claims.
	maxPlaces = 4096
	// maxIndexed bounds how many claims the index is asked for.
	maxIndexed = 1000
	// maxList bounds how many claims of a user one answer has.
	maxList = 100
	// usersWithin is how long the ledger may take.
	usersWithin = 2 * time.Second
)

// place is where a user's claim is in the log.
type place struct {
	id gift.ClaimID
	at fallbacklog.Position
}

// claimsOf finds the claims of a user, newest first: those in the campaigns that
// are configured now by their ids, which depend on nothing else, and the others
// through the ledger.
func (f *Front) claimsOf(ctx context.Context, user string) (found []place, asOf time.Time, err error) {
	ids := f.snapshot.Load().idsOf(user)
	if f.users != nil {
		ctx, cancel := context.WithTimeout(ctx, usersWithin)
		defer cancel()
		more, lag, err := f.users.UserClaims(ctx, user, maxIndexed)
		if err != nil {
			if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				f.unindexed.Tell("err", err)
			}
			return nil, time.Time{}, &gift.Error{Code: gift.Unavailable, Detail: "the index of users' claims is being opened or rebuilt from the log; come again", RetryAfter: soon()}
		}
		ids, asOf = append(ids, more...), lag
	}
	seen := make(map[gift.ClaimID]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		at, ok, err := f.guard.Find(ctx, id)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("claims of a user from the guard: %w", err)
		}
		if ok {
			found = append(found, place{id, at})
		}
	}
	slices.SortFunc(found, comparePlaces)
	return found, asOf, nil
}

// comparePlaces orders claims with the newest first.
func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(b.at, a.at), slices.Compare(b.id[:], a.id[:]))
}

// idsOf are the ids of all claims that a user could make, at most maxPlaces, in
// the order of the configuration.
func (s *Snapshot) idsOf(user string) []gift.ClaimID {
	var ids []gift.ClaimID
	for _, c := range s.all {
		for i := range c.Scenes {
			scene := c.scenes[c.Scenes[i].Name]
			for _, stage := range scene.Stages {
				if len(ids) == maxPlaces {
					return ids
				}
				ids = append(ids, c.ID.ClaimID(scene.Name, user, stage))
			}
		}
	}
	return ids
}
