package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"manna/console"
	"manna/gift"
	"manna/internal/config"
	"manna/ledger/postgres"
)

// OpenRegister opens the register of nodes for a person, where no server runs that could
// be asked. This node's own process may run meanwhile, or be of another release: nothing
// but what is declared is changed.
func OpenRegister(ctx context.Context, c *config.Config, logger *slog.Logger) (*console.Register, io.Closer, error) {
	if c.Ledger.Engine != config.Postgres {
		return nil, nil, gift.Errorf(gift.NotFound, "%s has no register of nodes: they are registered where ledger.engine is postgres", c.File)
	}
	l, err := postgres.Look(ctx, postgres.Options{DSN: string(c.Ledger.DSN), Node: c.Node, Schema: c.Ledger.Schema})
	if err != nil {
		return nil, nil, fmt.Errorf("ledger.dsn: %w", err)
	}
	return console.NewRegister(l, c.Node, logger), l, nil
}
