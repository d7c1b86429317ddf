package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"manna/gift"
	"manna/producer"
)

// MaxClaims is how many claims one request may hold.
const MaxClaims = 1000

// Claim is one claim of a bulk request.
type Claim struct {
	Campaign string          `json:"campaign"`
	Scene    string          `json:"scene,omitempty"`
	Stage    string          `json:"stage,omitempty"`
	Gift     string          `json:"gift,omitempty"`
	User     string          `json:"user"`
	Platform string          `json:"platform,omitempty"`
	Target   json.RawMessage `json:"target,omitempty"`
}

// ClaimsRequest claims for many users in one commit.
type ClaimsRequest struct {
	Who    string  `json:"who,omitempty"`
	Claims []Claim `json:"claims"`
}

// ClaimResult is what came of one: an id, or the code of the refusal.
type ClaimResult struct {
	ClaimID   *gift.ClaimID `json:"claim_id,omitempty"`
	Duplicate bool          `json:"duplicate,omitempty"`
	Code      gift.Code     `json:"code,omitempty"`
	Detail    string        `json:"detail,omitempty"`
}

// ClaimsAnswer has one result for each claim, in their order.
type ClaimsAnswer struct {
	Results []ClaimResult `json:"results"`
}

func (c *Console) claims(w http.ResponseWriter, r *http.Request) error {
	var q ClaimsRequest
	if err := read(r, &q); err != nil {
		return err
	}
	if len(q.Claims) == 0 || len(q.Claims) > MaxClaims {
		return &gift.Error{Code: gift.BadRequest, Field: "claims", Detail: fmt.Sprintf("has %d; a request holds 1 to %d", len(q.Claims), MaxClaims)}
	}
	requests := make([]producer.Request, len(q.Claims))
	for i, k := range q.Claims {
		requests[i] = producer.Request{Campaign: k.Campaign, Scene: k.Scene, Stage: k.Stage, Gift: k.Gift, User: k.User, Platform: k.Platform, Target: k.Target}
	}
	if err := checkWords(q.Who, "", false); err != nil {
		return err
	}
	var out ClaimsAnswer
	err := c.audited(r.Context(), deed{who: q.Who, action: "grant", detail: fmt.Sprintf("%d claims", len(requests))}, func() (string, error) {
		accepted := out.fill(c.opts.Front.ClaimBatch(r.Context(), requests))
		return fmt.Sprintf("%d claims, %d accepted", len(requests), accepted), nil
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, out)
	return nil
}

// fill takes the results in and counts the claims that were accepted, now or
// before.
func (a *ClaimsAnswer) fill(results []producer.Result) (accepted int) {
	for _, res := range results {
		var result ClaimResult
		var refused *gift.Error
		switch {
		case errors.As(res.Err, &refused):
			result.Code, result.Detail = refused.Code, refused.Detail
		case res.Err != nil:
			result.Code, result.Detail = gift.Unavailable, res.Err.Error()
		default:
			accepted++
			result.ClaimID, result.Duplicate = &res.Answer.Claim.ID, res.Answer.Duplicate
		}
		a.Results = append(a.Results, result)
	}
	return accepted
}
