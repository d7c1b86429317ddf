package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"manna/fallbacklog"
	"manna/gift"
)

// twice is a claim that was given two gifts. Fronts record it with different ones while
// the guard that they share is away, and the lanes are to deliver only that whose turn
// comes first.
type twice struct {
	claim   gift.ClaimID
	gifts   []string // of those given that which was recorded first, and another
	partner string   // of the other's order
}

// claim judges the rows of a claim, which its nodes wrote; ok is false where they are
// no break that this run reports. The time of the last row decides which run does, for
// the logs of that run have all of them. Grants may come later: a slot is looked at again
// until its orders are final.
func (j *judge) claim(ctx context.Context, e *evidence) (f finding, ok bool, err error) {
	if len(e.rows) == 1 {
		return f, false, nil
	}
	row := slices.MaxFunc(e.rows, func(a, b fallbacklog.Row) int { return cmp.Compare(a.Time, b.Time) })
	if row.Time < j.from || row.Time >= j.to || j.campaign != 0 && row.Campaign != j.campaign {
		return f, false, nil
	}
	if j.several != nil {
		if err := j.several(ctx, gift.ClaimID(row.ID)); err != nil {
			return f, false, err
		}
	}
	claims, err := j.claims(ctx, e)
	if err != nil || len(claims) == 1 {
		return f, false, err
	}
	granted, err := j.delivered(ctx, claims)
	if err != nil {
		return f, false, err
	}
	first, other, order := given(claims, granted)
	if other == nil {
		return f, false, nil
	}
	return finding{
		class: Duplicate, id: order.ID, camp: row.Campaign, at: row.Time, amount: order.Amount,
		twice: &twice{claim: other.ID, gifts: []string{first.Gift, other.Gift}, partner: order.Partner},
	}, true, nil
}

// claims reads what a claim was recorded with: each gift once, the oldest first.
func (j *judge) claims(ctx context.Context, e *evidence) (claims []*gift.Claim, err error) {
	var recs []*fallbacklog.Record
	for i := range e.rows {
		rec, err := j.read(ctx, e.place(i))
		if err == nil && rec.Claim == nil {
			err = fmt.Errorf("record %v is no claim", rec.At)
		}
		if err != nil {
			return nil, fmt.Errorf("claim %v: %w", gift.ClaimID(e.rows[i].ID), err)
		}
		recs = append(recs, rec)
	}
	slices.SortStableFunc(recs, func(a, b *fallbacklog.Record) int { return a.Time.Compare(b.Time) })
	for _, rec := range recs {
		if !slices.ContainsFunc(claims, func(c *gift.Claim) bool { return c.Gift == rec.Claim.Gift }) {
			claims = append(claims, rec.Claim)
		}
	}
	return claims, nil
}

// delivered looks up in all logs which orders of claims were granted.
func (j *judge) delivered(ctx context.Context, claims []*gift.Claim) (granted map[gift.OrderID]bool, err error) {
	granted = make(map[gift.OrderID]bool)
	for _, c := range claims {
		for _, o := range c.Orders {
			err := j.look(ctx, o.ID, func(e *evidence) error {
				if e.first(fallbacklog.Granted) != nil {
					granted[o.ID] = true
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("order %v: %w", o.ID, err)
			}
		}
	}
	return granted, nil
}

// given finds two gifts of which orders were granted, and such an order that only the
// other has. There are none where one gift has all that was granted: gifts may have an
// item in common.
func given(claims []*gift.Claim, granted map[gift.OrderID]bool) (first, other *gift.Claim, order gift.Order) {
	for _, c := range claims {
		count := 0
		for _, o := range c.Orders {
			if granted[o.ID] {
				count++
			}
		}
		if count == len(granted) {
			return nil, nil, order
		}
	}
	for _, c := range claims {
		for _, o := range c.Orders {
			if !granted[o.ID] {
				continue
			}
			if first == nil {
				first = c
			}
			if _, also := first.Order(o.ID); !also {
				return first, c, o
			}
		}
	}
	return nil, nil, order
}

// ofClaim reports whether a row is of a claim as a whole.
func ofClaim(row *fallbacklog.Row) bool { return row.OfClaim && row.Kind == fallbacklog.Claimed }
