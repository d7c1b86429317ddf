package producer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

const (
	// maxPlaces bounds in how many stages one request looks for a user's claims.
	maxPlaces = 4096
	// maxIndexed bounds how many claims the index is asked for.
	maxIndexed = ledger.MaxPage
	// maxList bounds how many claims of a user one answer has.
	maxList = 100
)

// userClaims is the answer to GET /v1/users/{user}/claims.
type userClaims struct {
	User   string            `json:"user"`
	Claims []json.RawMessage `json:"claims"`
	Next   string            `json:"next,omitempty"` // the value of ?before for the next page
	AsOf   time.Time         `json:"as_of,omitzero"`
}

// place is where a user's claim is.
type place struct {
	id  gift.ClaimID
	at  fallbacklog.Position // in this node's log
	own bool                 // it is there; else another node has it
	// claimed is set in a cluster, where positions of several logs have no order.
	claimed time.Time
}

// comparePlaces orders claims with the newest first.
func comparePlaces(a, b place) int {
	if !a.claimed.IsZero() {
		return cmp.Or(b.claimed.Compare(a.claimed), slices.Compare(b.id[:], a.id[:]))
	}
	return cmp.Or(cmp.Compare(b.at, a.at), slices.Compare(b.id[:], a.id[:]))
}

// list reads a page of a user's claims: those behind before, or the newest.
func (f *Front) list(ctx context.Context, user string, before gift.ClaimID, limit int) (*userClaims, error) {
	// Together: a slow ledger is not waited for once for each claim.
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	find := f.claimsOf
	if f.elsewhere != nil {
		find = f.claimsAnywhere
	}
	found, asOf, err := find(ctx, user)
	if err != nil {
		return nil, err
	}
	if !before.IsZero() {
		last, err := f.cursor(ctx, user, before, found)
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(p place) bool { return comparePlaces(p, last) <= 0 })
	}
	list := &userClaims{User: user, Claims: []json.RawMessage{}, AsOf: asOf}
	if len(found) > limit {
		found = found[:limit]
		list.Next = found[limit-1].id.String()
	}
	for _, p := range found {
		var answer Answer
		if p.own {
			answer, err = f.readOwn(ctx, p.id, p.at)
		} else {
			answer, err = f.Read(ctx, p.id)
		}
		if err != nil {
			return nil, err
		}
		list.Claims = append(list.Claims, appendAnswer(nil, &answer))
	}
	return list, nil
}

// cursor finds where the claim is that a page begins behind. It need not be among those
// that were found: the index that it came from may lag by now.
func (f *Front) cursor(ctx context.Context, user string, id gift.ClaimID, found []place) (place, error) {
	if i := slices.IndexFunc(found, func(p place) bool { return p.id == id }); i >= 0 {
		return found[i], nil
	}
	p, owner, err := f.locate(ctx, id)
	if err == nil && owner != user {
		err = fieldError("before", "%v is no claim of this user: take next of the page before, or leave it out for the first page", id)
	}
	return p, err
}

// locate finds a claim and its user, "" where there is no such claim.
func (f *Front) locate(ctx context.Context, id gift.ClaimID) (p place, user string, err error) {
	if at, ok := f.local.find(id); ok {
		return f.placeOf(id, at)
	}
	if f.elsewhere == nil {
		return place{}, "", nil
	}
	s, err := f.elsewhere.claim(ctx, id, nil)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return place{}, "", nil
	case err != nil:
		return place{}, "", unread(fmt.Sprintf("claim %v", id))
	}
	return place{id: id, claimed: s.Claim.ClaimedAt}, s.Claim.User, nil
}

// placeOf reads from this node's log where a claim belongs in a list.
func (f *Front) placeOf(id gift.ClaimID, at fallbacklog.Position) (place, string, error) {
	rec, err := f.log.Read(at)
	if err != nil {
		return place{}, "", err
	}
	if rec.Claim == nil || rec.Claim.ID != id {
		return place{}, "", fmt.Errorf("record %v is not claim %v", at, id)
	}
	p := place{id: id, at: at, own: true}
	if f.elsewhere != nil {
		p.claimed = rec.Claim.ClaimedAt
	}
	return p, rec.Claim.User, nil
}

// claimsOf finds the claims of a user, newest first: those in the campaigns that
// are configured now by their ids, which depend on nothing else, and the others
// through the ledger.
func (f *Front) claimsOf(ctx context.Context, user string) (found []place, asOf time.Time, err error) {
	ids := f.snapshot.Load().idsOf(user)
	if f.users != nil {
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
		if at, ok := f.local.find(id); ok {
			found = append(found, place{id: id, at: at, own: true})
		}
	}
	slices.SortFunc(found, comparePlaces)
	return found, asOf, nil
}

// claimsAnywhere is claimsOf over the logs of all nodes. Where the ledger does not
// answer, those of this log in the configured campaigns are listed, if there are
// any, and nothing is said to be complete: asOf is the beginning of time.
func (f *Front) claimsAnywhere(ctx context.Context, user string) (found []place, asOf time.Time, err error) {
	rows, asOf, err := f.elsewhere.userClaims(ctx, user)
	blind := err != nil || asOf.IsZero()
	if blind {
		asOf = time.Unix(0, 0).UTC()
	}
	known := make(map[gift.ClaimID]bool, len(rows))
	for _, row := range rows {
		known[row.ID] = true
		at, own := f.local.find(row.ID)
		found = append(found, place{row.ID, at, own, row.ClaimedAt})
	}
	for _, id := range f.snapshot.Load().idsOf(user) {
		at, own := f.local.find(id)
		if !own || known[id] {
			continue
		}
		p, _, err := f.placeOf(id, at)
		if err != nil {
			return nil, time.Time{}, err
		}
		found = append(found, p)
	}
	if blind && len(found) == 0 {
		return nil, time.Time{}, unread("what the user has claimed")
	}
	slices.SortFunc(found, comparePlaces)
	return found, asOf, nil
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
