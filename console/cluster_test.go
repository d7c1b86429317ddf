package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/gift"
	"manna/ledger"
)

// errServer is how a ledger fails whose server is away.
var errServer = fmt.Errorf("%w: connection refused", ledger.ErrUnavailable)

// shared is a ledger.Cluster that answers as it is told. What it does not have is not
// to be asked for.
type shared struct {
	ledger.Cluster
	fail  error // of everything
	nodes []ledger.Node
	now   time.Time
	lags  []ledger.Lag
	// orders and claims are what the ledger has taken in.
	orders   map[gift.OrderID]ledger.OrderRow
	claims   map[gift.ClaimID]ledger.ClaimStanding
	estates  map[string]ledger.Estate
	places   map[string]ledger.Place
	settling error    // of Settle
	lagging  error    // of Lags
	done     []string // what was changed
	endless  bool     // it was asked without a bound
}

func (s *shared) asked(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		s.endless = true
	}
	return s.fail
}

func (s *shared) Nodes(context.Context) ([]ledger.Node, time.Time, error) {
	return s.nodes, s.now, s.fail
}

func (s *shared) Lags(context.Context) ([]ledger.Lag, error) {
	return s.lags, errors.Join(s.fail, s.lagging)
}

// declare finds a node and notes what was done to it.
func (s *shared) declare(deed, name, by string) error {
	if s.fail != nil {
		return s.fail
	}
	for _, n := range s.nodes {
		if n.Name == name && n.State == ledger.NodeUp && deed == "retire" {
			return fmt.Errorf("node %s is up: %w", name, ledger.ErrHeld)
		}
		if n.Name == name {
			s.done = append(s.done, deed+" "+name+" by "+by)
			return nil
		}
	}
	return fmt.Errorf("node %s: %w", name, ledger.ErrNotFound)
}

func (s *shared) Lose(_ context.Context, node, by string) error { return s.declare("lose", node, by) }

func (s *shared) Retire(_ context.Context, node, by string) error {
	return s.declare("retire", node, by)
}

func (s *shared) Order(ctx context.Context, id gift.OrderID) (ledger.OrderRow, error) {
	if err := s.asked(ctx); err != nil {
		return ledger.OrderRow{}, err
	}
	if row, ok := s.orders[id]; ok {
		return row, nil
	}
	return ledger.OrderRow{}, fmt.Errorf("order %v: %w", id, ledger.ErrNotFound)
}

func (s *shared) Claim(ctx context.Context, id gift.ClaimID) (ledger.ClaimStanding, error) {
	if err := s.asked(ctx); err != nil {
		return ledger.ClaimStanding{}, err
	}
	if c, ok := s.claims[id]; ok {
		return c, nil
	}
	return ledger.ClaimStanding{}, fmt.Errorf("claim %v: %w", id, ledger.ErrNotFound)
}

func (s *shared) Estate(_ context.Context, holder string) (ledger.Estate, error) {
	if s.fail != nil {
		return ledger.Estate{}, s.fail
	}
	if e, ok := s.estates[holder]; ok {
		return e, nil
	}
	return ledger.Estate{}, ledger.ErrNotFound
}

func (s *shared) Place(_ context.Context, node string) (ledger.Place, error) {
	return s.places[node], s.fail
}

func (s *shared) Settle(_ context.Context, k ledger.StockKey, h ledger.Holder, used int64) (ledger.Lease, error) {
	s.done = append(s.done, fmt.Sprintf("settle %s/%s of %s, epoch %d: %d", k.Campaign, k.Gift, h.Node, h.Epoch, used))
	return ledger.Lease{Node: h.Node, Held: used}, s.settling
}
