package console

import (
	"errors"
	"net/http"
	"time"

	"manna/fallbacklog"
	"manna/gift"
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
	s, err := c.find(r)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, Tell(s, c.opts.Now()))
	return nil
}

func (c *Console) find(r *http.Request) (*fallbacklog.Story, error) {
	id, err := gift.ParseOrderID(r.PathValue("id"))
	if err != nil {
		return nil, &gift.Error{Code: gift.BadRequest, Field: "id", Detail: err.Error()}
	}
	s, err := c.opts.Log.Order(id)
	if errors.Is(err, fallbacklog.ErrNotFound) {
		return nil, gift.Errorf(gift.NotFound, "no order %v in the log of node %s; if it is a claim's id: manna claim %v", id, c.opts.Log.Node(), id)
	}
	return s, err
}

func (c *Console) claim(w http.ResponseWriter, r *http.Request) error {
	id, err := gift.ParseClaimID(r.PathValue("id"))
	if err != nil {
		return &gift.Error{Code: gift.BadRequest, Field: "id", Detail: err.Error()}
	}
	claim, stories, err := c.opts.Log.Claim(id)
	// The log finds a claim by its orders' ids too.
	if errors.Is(err, fallbacklog.ErrNotFound) || err == nil && claim.ID != id {
		return gift.Errorf(gift.NotFound, "no claim %v in the log of node %s; if it is an order's id: manna order %v", id, c.opts.Log.Node(), id)
	}
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, TellClaim(claim, stories, c.opts.Now()))
	return nil
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
	if err := told(q.Who, q.Why, true); err != nil {
		return err
	}
	s, err := c.find(r)
	if err != nil {
		return err
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
