package gift

import (
	"encoding/json"
	"time"
)

// Claim is an accepted entitlement with everything that its delivery, and any
// later reissue, needs: nothing about it has to be looked up in a configuration
// that may have changed since.
type Claim struct {
	ID       ClaimID `json:"claim_id"`
	Campaign string  `json:"campaign"`
	Scene    string  `json:"scene"`
	Stage    string  `json:"stage,omitempty"`
	User     string  `json:"user"`
	Gift     string  `json:"gift"`
	Platform string  `json:"platform,omitempty"`
	// Target is the caller's JSON object that says where the gift goes (a
	// wallet, a phone number, a role on a server). It is handed to the partner
	// as it came.
	Target    json.RawMessage `json:"target,omitempty"`
	ClaimedAt time.Time       `json:"claimed_at"`
	DeliverBy time.Time       `json:"deliver_by"`
	Orders    []Order         `json:"orders"`
}

// Order is the obligation to deliver one item of a claim to one partner.
type Order struct {
	ID       OrderID `json:"order_id"`
	Item     string  `json:"item"`
	Partner  string  `json:"partner"`
	SKU      string  `json:"sku,omitempty"`
	Quantity int64   `json:"quantity"`
	Amount   int64   `json:"amount,omitempty"` // in the smallest unit of Currency
	Currency string  `json:"currency,omitempty"`
}

// Order finds the claim's order with the given id.
func (c *Claim) Order(id OrderID) (Order, bool) {
	for _, o := range c.Orders {
		if o.ID == id {
			return o, true
		}
	}
	return Order{}, false
}
