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
	// DeliverBy and Orders are what a store that wants outcomes also takes in, and
	// what Outcomes gives; in lists they are empty.
	DeliverBy time.Time    `json:"deliver_by,omitzero"`
	Orders    []gift.Order `json:"orders,omitempty"`
}

// Switch is the last change of a switch.
type Switch struct {
	fallbacklog.Switch
	Time time.Time            `json:"time"` // when it was changed
	Node string               `json:"node"`
	At   fallbacklog.Position `json:"at"` // of the `switched` record
}
