package consumer

import (
	"context"
	"slices"

	"manna/fallbacklog"
	"manna/gift"
)

// refuse commits a refusal. With the one that leaves nothing of a claim the gift
// goes back to its stock, in the same commit: no crash comes between.
func (d *delivering) refuse(ctx context.Context, recs ...*fallbacklog.Record) error {
	if d.c.opts.Cluster != nil {
		// The stock is common, and other nodes' logs may have the rest of the claim:
		// what the ledger has taken in decides (refund).
		return d.append(ctx, recs...)
	}
	// Two orders of the claim may be refused at once; one of them is the last.
	id := d.m.Claim.ID
	stripe := &d.c.claims[int(id[0])%len(d.c.claims)]
	stripe.Lock()
	defer stripe.Unlock()
	whole, err := d.othersRefused()
	if err != nil {
		d.logger.Error("cannot read a claim's records; its gift does not go back to the stock", "claim_id", id, "err", err)
	}
	if err != nil || !whole {
		return d.append(ctx, recs...)
	}
	stock := &fallbacklog.Stock{Campaign: d.m.Claim.Campaign, Gift: d.m.Claim.Gift, Count: 1, Claim: id, Reason: "every order was refused"}
	// First, so that whoever reads the log and stops after the refusal knows of it.
	recs = append([]*fallbacklog.Record{{Kind: fallbacklog.Returned, Time: recs[0].Time, Stock: stock}}, recs...)
	if err := d.append(ctx, recs...); err != nil {
		return err
	}
	if d.c.opts.Returned != nil {
		d.c.opts.Returned(stock)
	}
	return nil
}

// othersRefused reports whether every other order of the claim is refused and its
// gift has not gone back yet.
func (d *delivering) othersRefused() (bool, error) {
	log := d.c.opts.Log
	for _, o := range d.m.Claim.Orders {
		if o.ID == d.m.Order.ID {
			continue
		}
		rows, err := log.Lookup(o.ID)
		if err != nil {
			return false, err
		}
		if state, _ := fallbacklog.StateOf(rows); state != gift.StateRefused {
			return false, nil
		}
	}
	rows, err := log.Lookup(d.m.Claim.ID)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(rows, func(r fallbacklog.Row) bool { return r.Kind == fallbacklog.Returned }), nil
}
