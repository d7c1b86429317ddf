package ledger

import (
	"cmp"

	"manna/gift"
)

// GivenElsewhere is the code of an order that is refused because its claim gets
// another gift (Choices).
const GivenElsewhere = "given_elsewhere"

// Stands gives which of several nodes' records of one claim it is read as: the one whose
// gift the user gets. Choices fixes that, and is swept; what became of the orders is in
// the logs for good, so they tell. events are what is known of all the records' orders.
// Where they tell nothing the earliest record stands, of equal times that of the node
// whose name sorts first. It does not depend on how the records are arranged; -1 where
// there are none.
func Stands(records []ClaimRow, events map[gift.OrderID][]OrderEvent) int {
	best := -1
	for i := range records {
		if best < 0 || standsBefore(&records[i], &records[best], events) {
			best = i
		}
	}
	return best
}

func standsBefore(a, b *ClaimRow, events map[gift.OrderID][]OrderEvent) bool {
	switch {
	case Supersedes(a, b, events):
		return true
	case Supersedes(b, a, events):
		return false
	}
	return cmp.Or(a.ClaimedAt.Compare(b.ClaimedAt), cmp.Compare(a.Node, b.Node)) < 0
}

// Supersedes reports whether the claim is read as a, another node's record of it, rather
// than as b because of what became of their orders: of b's some were refused for the
// other gift's sake, or more of a's were granted.
func Supersedes(a, b *ClaimRow, events map[gift.OrderID][]OrderEvent) bool {
	lostA, grantedA := fate(a, events)
	lostB, grantedB := fate(b, events)
	if lostA != lostB {
		return lostB
	}
	return grantedA > grantedB
}

// fate tells whether a record's gift was passed over, and how many of its orders were
// granted.
func fate(c *ClaimRow, events map[gift.OrderID][]OrderEvent) (lost bool, granted int) {
	for _, o := range c.Orders {
		switch s := Fold(events[o.ID]); {
		case s.State == gift.StateGranted:
			granted++
		case s.State == gift.StateRefused && s.Code == GivenElsewhere:
			lost = true
		}
	}
	return lost, granted
}
