package config

import (
	"manna/gift"
)

// ownName is the remedy for an item whose name is another's.
const ownName = "give it a name of its own: order ids are made from it"

// alike refuses an item that is something else in an earlier gift of the campaign. Two
// fronts whose guard fails may record one claim with either gift, and the orders of both
// would have one id.
func (v value) alike(k *gift.Campaign, item *gift.Item) {
	for _, g := range k.Gifts {
		for i := range g.Items {
			other := &g.Items[i]
			if other.Name != item.Name || delivers(other) == delivers(item) {
				continue
			}
			v.fail(ownName, "the item %s is something else in the gift %s: partner, sku, quantity, amount and currency are to be the same in all gifts of a campaign, where several fronts share a queue", item.Name, g.Name)
			return
		}
	}
}

// delivery is what a partner is asked for.
type delivery struct {
	partner, sku, currency string
	quantity, amount       int64
}

func delivers(i *gift.Item) delivery {
	return delivery{i.Partner, i.SKU, i.Currency, i.Quantity, i.Amount}
}
