package consumer

import (
	"context"
	"fmt"
	"slices"

	"manna/fallbacklog"
	"manna/ledger"
)

// choose sees to it that a claim gets one gift. Fronts whose guard has failed may have
// recorded it with different ones; then it gets the one of which an order comes to its
// first attempt first, and the orders that only the others have are refused. Where the
// ledger is away such an order waits: nobody else can tell.
func (d *delivering) choose(ctx context.Context) step {
	c := d.c.opts.Cluster
	if c == nil || c.Varies == nil || d.m.Attempts > 0 || d.m.InDoubt || !c.Varies(d.m.Claim) {
		return d.first()
	}
	mine := ledger.Choice{Claim: d.m.Claim.ID, Gift: d.m.Claim.Gift}
	for _, o := range d.m.Claim.Orders {
		mine.Orders = append(mine.Orders, o.ID)
	}
	defer d.onward()
	for {
		stands, err := d.choosing.ask(ctx, mine)
		if ctx.Err() == nil {
			d.c.shared.note(err)
		}
		switch {
		case err == nil && slices.Contains(stands.Orders, d.m.Order.ID):
			return d.first()
		case err == nil:
			return d.final(fallbacklog.Refused, fallbacklog.Event{Code: ledger.GivenElsewhere, Reason: fmt.Sprintf("two nodes recorded the claim while their guard failed, and it gets %s", stands.Gift)})
		}
		if d.await(ctx, err) != nil {
			return nil
		}
	}
}
