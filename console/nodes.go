package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"manna/gift"
	"manna/ledger"
)

// Nodes are those of a cluster.
type Nodes struct {
	Nodes []ledger.Node `json:"nodes"`
	Now   time.Time     `json:"now"` // by the register's clock
	// Behind is how far the ledger has each node's log.
	Behind []ledger.Lag `json:"behind"`
}

// NodeRequest declares what only a person can know of a node.
type NodeRequest struct {
	Why string `json:"why"`
	Who string `json:"who,omitempty"`
}

// Register is what a person does with the register of nodes, through a running server
// or, where none runs, beside it.
type Register struct {
	auditor
	ledger ledger.Cluster
}

// NewRegister makes a Register; what is done is in the audit as from the named node.
func NewRegister(l ledger.Cluster, node string, logger *slog.Logger) *Register {
	return &Register{auditor{l, node, logger}, l}
}

// Nodes lists the nodes.
func (g *Register) Nodes(ctx context.Context) (n Nodes, err error) {
	if n.Nodes, n.Now, err = g.ledger.Nodes(ctx); err == nil {
		n.Behind, err = g.ledger.Lags(ctx)
	}
	return n, unregistered(err)
}

// Declare does a deed to a node, "lose" or "retire", and lists the nodes. Errors are
// *gift.Error.
func (g *Register) Declare(ctx context.Context, deedWord, name string, q NodeRequest) (Nodes, error) {
	do, ok := map[string]func(ctx context.Context, node, by string) error{"lose": g.ledger.Lose, "retire": g.ledger.Retire}[deedWord]
	if !ok {
		return Nodes{}, gift.Errorf(gift.NotFound, "there is no %q to be done to a node: lose, retire or settle it", deedWord)
	}
	if err := checkWords(q.Who, q.Why, true); err != nil {
		return Nodes{}, err
	}
	err := g.audited(ctx, deed{who: q.Who, action: "node " + deedWord, target: name, detail: q.Why}, func() (string, error) {
		return "", do(ctx, name, who(q.Who))
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return Nodes{}, gift.Errorf(gift.NotFound, "there is no node %q: see manna node", name)
	case errors.Is(err, ledger.ErrHeld):
		return Nodes{}, &gift.Error{Code: gift.BadRequest, Field: "name", Detail: err.Error()}
	case err != nil:
		return Nodes{}, unregistered(err)
	}
	return g.Nodes(ctx)
}

// unregistered is what a caller is told of a register that does not answer.
func unregistered(err error) error {
	if _, ok := errors.AsType[*gift.Error](err); ok || err == nil {
		return err
	}
	return &gift.Error{Code: gift.Unavailable, Detail: "the register of nodes does not answer: " + err.Error(), RetryAfter: comeAgain}
}

// register is the node's, where there is one.
func (c *Console) register() (*Register, error) {
	if c.opts.Cluster == nil {
		return nil, gift.Errorf(gift.NotFound, "this node is the only one: nodes are registered where ledger.engine is postgres")
	}
	return &Register{c.auditor, c.opts.Cluster}, nil
}

func (c *Console) nodes(w http.ResponseWriter, r *http.Request) error {
	g, err := c.register()
	if err != nil {
		return err
	}
	n, err := g.Nodes(r.Context())
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, n)
	return nil
}

func (c *Console) declare(w http.ResponseWriter, r *http.Request) error {
	g, err := c.register()
	if err != nil {
		return err
	}
	var q NodeRequest
	if err := read(r, &q); err != nil {
		return err
	}
	n, err := g.Declare(r.Context(), r.PathValue("deed"), r.PathValue("name"), q)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, n)
	return nil
}
