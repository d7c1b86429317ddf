package ledger

import (
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

// ClaimRow is a claim as the ledger knows it. Where its orders stand is in the
// log, at At of the node's.
type ClaimRow struct {
	ID        gift.ClaimID         `json:"claim_id"`
	User      string               `json:"user"`
	Campaign  string               `json:"campaign"`
	Scene     string               `json:"scene"`
	Stage     string               `json:"stage,omitempty"`
	Gift      string               `json:"gift"`
	ClaimedAt time.Time            `json:"claimed_at"`
	Node      string               `json:"node"`
	At        fallbacklog.Position `json:"at"` // of the `claimed` record
}

// Switch is the last change of a switch.
type Switch struct {
	fallbacklog.Switch
	Time time.Time            `json:"time"` // when it was changed
	Node string               `json:"node"`
	At   fallbacklog.Position `json:"at"` // of the `switched` record
}
