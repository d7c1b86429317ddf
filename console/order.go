package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/queue"
)

// ClaimStory is a claim with the stories of its orders.
type ClaimStory struct {
	ClaimID   gift.ClaimID `json:"claim_id"`
	State     string       `json:"state"` // accepted, or settled once every order is final
	Campaign  string       `json:"campaign"`
	Scene     string       `json:"scene"`
	Stage     string       `json:"stage,omitempty"`
	User      string       `json:"user"`
	Gift      string       `json:"gift"`
	ClaimedAt time.Time    `json:"claimed_at"`
	DeliverBy time.Time    `json:"deliver_by"`
	Orders    []Story      `json:"orders"`
}

// TellClaim makes the stories of a claim readable.
func TellClaim(claim *gift.Claim, stories []*fallbacklog.Story, now time.Time) ClaimStory {
	t := ClaimStory{
		ClaimID: claim.ID, State: "settled", Campaign: claim.Campaign, Scene: claim.Scene, Stage: claim.Stage,
		User: claim.User, Gift: claim.Gift, ClaimedAt: claim.ClaimedAt, DeliverBy: claim.DeliverBy,
	}
	for _, s := range stories {
		if !s.State.Final() {
			t.State = "accepted"
		}
		t.Orders = append(t.Orders, Tell(s, now))
	}
	return t
}

func (c *Console) order(w http.ResponseWriter, r *http.Request) error {
	t, err := c.asked(r)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, t.tell(c.opts.Now()))
	return nil
}

// asked finds the order that a request names.
func (c *Console) asked(r *http.Request) (*told, error) {
	id, err := gift.ParseOrderID(r.PathValue("id"))
	if err != nil {
		return nil, &gift.Error{Code: gift.BadRequest, Field: "id", Detail: err.Error()}
	}
	return c.find(r.Context(), id)
}

func (c *Console) claim(w http.ResponseWriter, r *http.Request) error {
	id, err := gift.ParseClaimID(r.PathValue("id"))
	if err != nil {
		return &gift.Error{Code: gift.BadRequest, Field: "id", Detail: err.Error()}
	}
	claim, err := c.claimed(r.Context(), id)
	if err != nil {
		return err
	}
	s := TellClaim(claim, nil, c.opts.Now())
	for _, o := range claim.Orders {
		t, err := c.find(r.Context(), o.ID)
		if err != nil {
			return err
		}
		if !t.State.Final() {
			s.State = "accepted"
		}
		s.Orders = append(s.Orders, t.tell(c.opts.Now()))
	}
	answer(w, http.StatusOK, s)
	return nil
}

// claimed reads a claim out of this node's log, or the ledger. What the ledger knows to
// be the gift that the claim gets goes before what this node has recorded.
func (c *Console) claimed(ctx context.Context, id gift.ClaimID) (*gift.Claim, error) {
	own, _, err := c.opts.Log.Claim(id)
	// The log finds a claim by its orders' ids too.
	recorded := err == nil && own.ID == id
	if err != nil && !errors.Is(err, fallbacklog.ErrNotFound) {
		return nil, err
	}
	missing := gift.Errorf(gift.NotFound, "no claim %v in the log of node %s; if it is an order's id: manna order %v", id, c.opts.Log.Node(), id)
	if c.opts.Cluster == nil {
		if recorded {
			return own, nil
		}
		return nil, missing
	}
	ctx, cancel := context.WithTimeout(ctx, elsewhereWithin)
	defer cancel()
	standing, err := c.opts.Cluster.Claim(ctx, id)
	switch {
	case recorded && (err != nil || !ledger.Supersedes(&standing.Claim, &ledger.ClaimRow{Orders: own.Orders}, standing.Events)):
		return own, nil
	case err == nil:
		return claimOf(&standing.Claim), nil
	case errors.Is(err, ledger.ErrNotFound):
		return nil, missing
	}
	return nil, &gift.Error{Code: gift.Unavailable, Detail: fmt.Sprintf("claim %v is not in the log of node %s, and the ledger does not answer: %v", id, c.opts.Log.Node(), err), RetryAfter: comeAgain}
}

// ReissueRequest takes a parked order up again.
type ReissueRequest struct {
	Why string `json:"why"`
	Who string `json:"who,omitempty"`
}

func (c *Console) reissue(w http.ResponseWriter, r *http.Request) error {
	var q ReissueRequest
	if err := read(r, &q); err != nil {
		return err
	}
	if err := checkWords(q.Who, q.Why, true); err != nil {
		return err
	}
	s, err := c.asked(r)
	if err != nil {
		return err
	}
	if s.Origin == 0 {
		return gift.Errorf(gift.BadRequest, "order %v was claimed at node %s, and only that node has all that its partner needs: ask there", s.Order.ID, s.nodes[0])
	}
	if s.State == gift.StateGranted || s.State == gift.StateRefused {
		return gift.Errorf(gift.BadRequest, "order %v is %v: only an order that is not final, or parked, can be taken up again", s.Order.ID, s.State)
	}
	run := fallbacklog.RunHand
	if s.State == gift.StateParked {
		run = fallbacklog.RunPerson
	}
	rec := &fallbacklog.Record{Kind: fallbacklog.Reissued, Event: &fallbacklog.Event{
		Order: s.Order.ID, Claim: s.Claim.ID, Campaign: s.Claim.Campaign, Partner: s.Order.Partner, Origin: s.Origin,
		Reason: q.Why, Run: run + who(q.Who),
	}}
	err = c.audited(r.Context(), deed{who: q.Who, action: "reissue", target: s.Order.ID.String(), detail: q.Why}, func() (string, error) {
		// Commit point: the order is on its way again; Send only brings it there now.
		if err := c.opts.Log.Append(r.Context(), rec); err != nil {
			return "", err
		}
		return "", c.opts.Queue.Send(r.Context(), &queue.Message{Claim: s.Claim, Order: s.Order, Origin: s.Origin})
	})
	if err != nil {
		return err
	}
	return c.order(w, r)
}
