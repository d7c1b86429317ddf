package reconcile

import (
	"context"
	"fmt"
	"slices"

	"manna/fallbacklog"
	"manna/gift"
)

// twice is a claim that two nodes accepted with different gifts, as may happen while
// the guard that they share is away.
type twice struct {
	claim   gift.ClaimID
	gifts   []string // the earlier claim's first
	partner string   // of the later claim's order
}

// claim judges the rows of a claim, which its nodes wrote; ok is false where they are
// no break that this run reports. The later claim's time decides which run does, for
// the logs of that run have both.
func (j *judge) claim(ctx context.Context, e *evidence) (f finding, ok bool, err error) {
	if len(e.rows) == 1 {
		return f, false, nil
	}
	first, last := 0, 0
	for i := range e.rows {
		if e.rows[i].Time < e.rows[first].Time {
			first = i
		}
		if e.rows[i].Time >= e.rows[last].Time {
			last = i
		}
	}
	row := &e.rows[last]
	if row.Time < j.from || row.Time >= j.to || j.campaign != 0 && row.Campaign != j.campaign {
		return f, false, nil
	}
	claims := make([]*gift.Claim, len(e.rows))
	for i := range e.rows {
		rec, err := j.read(ctx, e.place(i))
		if err == nil && rec.Claim == nil {
			err = fmt.Errorf("record %v is no claim", rec.At)
		}
		if err != nil {
			return f, false, fmt.Errorf("claim %v: %w", gift.ClaimID(row.ID), err)
		}
		claims[i] = rec.Claim
	}
	// The first of another gift: more than two come to the same.
	other := slices.IndexFunc(claims, func(c *gift.Claim) bool { return c.Gift != claims[first].Gift })
	if other < 0 || len(claims[other].Orders) == 0 {
		return f, false, nil
	}
	order := claims[other].Orders[0]
	for _, o := range claims[other].Orders {
		if !slices.ContainsFunc(claims[first].Orders, func(p gift.Order) bool { return p.ID == o.ID }) {
			order = o
			break
		}
	}
	return finding{
		class: Duplicate, id: order.ID, camp: row.Campaign, at: row.Time, amount: order.Amount,
		twice: &twice{claim: gift.ClaimID(row.ID), gifts: []string{claims[first].Gift, claims[other].Gift}, partner: order.Partner},
	}, true, nil
}

// ofClaim reports whether a row is of a claim as a whole.
func ofClaim(row *fallbacklog.Row) bool { return row.OfClaim && row.Kind == fallbacklog.Claimed }
