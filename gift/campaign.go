package gift

import (
	"slices"
	"time"
)

// Campaign is a time window in which gifts may be claimed. A Campaign is built
// by the configuration, checked there, and never changed afterwards: a reload
// makes a new one, and what is in flight keeps the one it began with.
type Campaign struct {
	Name   string
	ID     CampaignID
	Opens  time.Time // claims are taken from here
	Closes time.Time // up to but not including here
	Scenes []Scene   // one with an empty name where the campaign has none
	// ClaimsPerUser bounds how many stages of a scene one user may claim.
	ClaimsPerUser int
	// Promise is the time from a claim within which each of its orders ends.
	Promise time.Duration
	// Segment is the file of the bitmap of users who may claim; empty means
	// that everyone may.
	Segment string
	Gifts   []*Gift
}

// Scene is one rain, one show segment of a campaign.
type Scene struct {
	Name   string
	Stages []string // one empty stage where the scene has none
}

// Gift is what a user sees; with several items it is a pack.
type Gift struct {
	Name  string
	Stock int64 // claims of this gift that may be accepted; 0 means unlimited
	// LowUnder is the number of gifts left below which Instead is given; 0
	// where there is no such rule.
	LowUnder int64
	Instead  string
	Items    []Item
}

// Item is what one partner delivers.
type Item struct {
	Name      string
	Partner   string
	SKU       string
	Quantity  int64
	Amount    int64 // in the smallest unit of Currency
	Currency  string
	Platforms []string // platforms it is meant for; empty means all
}

// Gift finds a gift by name.
func (c *Campaign) Gift(name string) (*Gift, bool) {
	for _, g := range c.Gifts {
		if g.Name == name {
			return g, true
		}
	}
	return nil, false
}

// Varies reports whether two claims of one entitlement may have different orders: other
// gifts to be chosen or given instead, or items that depend on the platform.
func (c *Campaign) Varies() bool {
	return len(c.Gifts) != 1 || slices.ContainsFunc(c.Gifts[0].Items, func(i Item) bool { return len(i.Platforms) > 0 })
}

// Scene finds a scene by name.
func (c *Campaign) Scene(name string) (*Scene, bool) {
	for i := range c.Scenes {
		if c.Scenes[i].Name == name {
			return &c.Scenes[i], true
		}
	}
	return nil, false
}

// Fits reports whether the item is delivered to a user on platform.
func (i *Item) Fits(platform string) bool {
	return len(i.Platforms) == 0 || slices.Contains(i.Platforms, platform)
}

// NewClaim turns an entitlement into a claim with its orders: one for each item
// of the gift that fits the platform. The claim has no orders where none fits.
func (c *Campaign) NewClaim(id ClaimID, scene, stage, user string, g *Gift, platform string, target []byte, at time.Time) *Claim {
	claim := &Claim{
		ID: id, Campaign: c.Name, Scene: scene, Stage: stage, User: user,
		Gift: g.Name, Platform: platform, Target: target,
		ClaimedAt: at, DeliverBy: at.Add(c.Promise),
		Orders: make([]Order, 0, len(g.Items)),
	}
	for i := range g.Items {
		item := &g.Items[i]
		if !item.Fits(platform) {
			continue
		}
		claim.Orders = append(claim.Orders, Order{
			ID: id.OrderID(item.Name), Item: item.Name, Partner: item.Partner, SKU: item.SKU,
			Quantity: item.Quantity, Amount: item.Amount, Currency: item.Currency,
		})
	}
	return claim
}
