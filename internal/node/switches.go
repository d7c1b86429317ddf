package node

import (
	"context"
	"time"

	"manna/ledger"
)

// switchEvery is how often the switches of other nodes are looked at.
const switchEvery = time.Second

// watchSwitches takes over what people set on other nodes, until ctx ends. While the
// ledger is away every node keeps what it has.
func (n *Node) watchSwitches(ctx context.Context) error {
	tick := time.NewTicker(switchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		all, err := n.shared.Switches(ctx)
		if err != nil {
			continue // the register, which asks as often, says so
		}
		for i := range all {
			if err := n.takeOver(ctx, &all[i]); err != nil && ctx.Err() == nil {
				n.logger.Error("a switch that was set on another node cannot be set here; it is tried again", "switch", all[i].Name, "mode", all[i].Mode, "node", all[i].Node, "err", err)
			}
		}
	}
}

// takeOver sets a switch as it was set on another node, where that is the latest.
func (n *Node) takeOver(ctx context.Context, s *ledger.Switch) error {
	b, ok := n.breakers.Get(s.Name)
	if !ok || s.Node == n.log.Node() {
		return nil
	}
	done, err := n.switches.Follow(ctx, b, s.Switch, s.Time)
	if done && err == nil {
		n.logger.Warn("switch was set on another node", "switch", s.Name, "mode", s.Mode, "node", s.Node, "who", s.Who, "why", s.Why)
	}
	return err
}
