package node

import (
	"context"
	"time"

	"manna/ledger"
)

const (
	// sweepEvery is how often marks and choices are looked through that nobody needs any
	// more.
	sweepEvery = time.Hour
	// sweepKeep is how long they are kept: longer than any copy of an order can be on
	// its way, in a broker or on the disk of a node that was away.
	sweepKeep = 30 * 24 * time.Hour
	// sweepOrders and sweepCalls bound one look.
	sweepOrders, sweepCalls = 5000, 100
)

// sweep removes marks of attempts, and choices of gifts, whose orders have long ended,
// until ctx ends. A node that has not been heard of since, and is not retired, holds it
// back: when it is back it may feed what was claimed then.
func (n *Node) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		removed, err := n.sweepOnce(ctx)
		if err != nil && ctx.Err() == nil {
			n.logger.Warn("old marks of attempts cannot be removed now; it is tried again in an hour", "err", err)
		} else if removed > 0 {
			n.logger.Info("removed old marks of attempts, and choices of gifts", "rows", removed)
		}
	}
}

func (n *Node) sweepOnce(ctx context.Context) (removed int64, err error) {
	nodes, before, err := n.shared.Nodes(ctx)
	if err != nil {
		return 0, err
	}
	for i := range nodes {
		if nodes[i].State != ledger.NodeRetired && nodes[i].Seen.Before(before) {
			before = nodes[i].Seen
		}
	}
	for _, sweep := range []func(context.Context, time.Time, int) (int64, error){n.shared.Sweep, n.shared.SweepChoices} {
		for range sweepCalls {
			some, err := sweep(ctx, before.Add(-sweepKeep), sweepOrders)
			removed += some
			if err != nil {
				return removed, err
			}
			if some == 0 {
				break
			}
		}
	}
	return removed, nil
}
