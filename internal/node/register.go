package node

import (
	"context"
	"errors"
	"fmt"

	"manna/console"
	"manna/gift"
	"manna/internal/config"
	"manna/ledger"
	"manna/ledger/postgres"
)

// Register lists the nodes where no server runs that could be asked, and does what
// deed says, "lose", "retire" or nothing, to the one that is named. A deed is in the
// audit before it is done. This node's own process may run meanwhile, or be of another
// release: nothing else is changed.
func Register(ctx context.Context, c *config.Config, deed, name string, q console.NodeRequest) (got console.Nodes, err error) {
	if c.Ledger.Engine != config.Postgres {
		return got, gift.Errorf(gift.Unavailable, "%s has no register of nodes: they are registered where ledger.engine is postgres", c.File)
	}
	l, err := postgres.Look(ctx, postgres.Options{DSN: string(c.Ledger.DSN), Node: c.Node, Schema: c.Ledger.Schema})
	if err != nil {
		return got, fmt.Errorf("ledger.dsn: %w", err)
	}
	defer l.Close()
	if do := map[string]func(context.Context, string, string) error{"lose": l.Lose, "retire": l.Retire}[deed]; do != nil {
		e := ledger.Entry{Who: q.Who, Role: "admin", Action: "node " + deed, Target: name, Detail: q.Why, Result: ledger.ResultBegun, Node: c.Node}
		if e.Who == "" {
			e.Who = "admin"
		}
		if err := l.Audit(ctx, e); err != nil {
			return got, err
		}
		failed := do(ctx, name, e.Who)
		if e.Result = ledger.ResultDone; failed != nil {
			e.Result = failed.Error()
		}
		if err := errors.Join(failed, l.Audit(ctx, e)); err != nil {
			return got, err
		}
	}
	if got.Nodes, got.Now, err = l.Nodes(ctx); err != nil {
		return got, err
	}
	got.Behind, err = l.Lags(ctx)
	return got, err
}
