package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"manna/internal/notice"
	"manna/ledger"
)

// switchEvery is how often the switches of other nodes are looked at.
const switchEvery = time.Second

// watchSwitches takes over what people set on other nodes, until ctx ends. While the
// ledger is away every node keeps what it has.
func (n *Node) watchSwitches(ctx context.Context) error {
	unread := notice.NewRepeated(n.logger, slog.LevelError, "the switches that are set on other nodes cannot be read; it is tried again")
	unset := notice.NewRepeated(n.logger, slog.LevelError, "a switch that was set on another node cannot be set here; it is tried again")
	tick := time.NewTicker(switchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		all, err := n.shared.Switches(ctx)
		// Of a ledger that is away the register says so, which asks as often.
		if err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrUnavailable) {
			unread.Tell("err", err)
		}
		for i := range all {
			if err := n.takeOver(ctx, &all[i]); err != nil && ctx.Err() == nil {
				unset.Tell("switch", all[i].Name, "mode", all[i].Mode, "node", all[i].Node, "err", err)
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
