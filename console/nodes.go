package console

import (
	"errors"
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

// errAlone: there is nothing to say of nodes.
var errAlone = gift.Errorf(gift.Unavailable, "this node is the only one: nodes are registered where ledger.engine is postgres")

func (c *Console) nodes(w http.ResponseWriter, r *http.Request) error {
	if c.opts.Registry == nil {
		return errAlone
	}
	nodes, now, err := c.opts.Registry.Nodes(r.Context())
	if err != nil {
		return unregistered(err)
	}
	behind, err := c.opts.Outcomes.Lags(r.Context())
	if err != nil {
		return unregistered(err)
	}
	answer(w, http.StatusOK, Nodes{Nodes: nodes, Now: now, Behind: behind})
	return nil
}

// NodeRequest declares what only a person can know of a node.
type NodeRequest struct {
	Why string `json:"why"`
	Who string `json:"who,omitempty"`
}

// The deeds that are done to a node.
const (
	deedLose   = "lose"
	deedRetire = "retire"
)

func (c *Console) declare(w http.ResponseWriter, r *http.Request) error {
	name, do := r.PathValue("name"), r.PathValue("deed")
	if do != deedLose && do != deedRetire {
		return gift.Errorf(gift.NotFound, "there is no %s %s", r.Method, r.URL.Path)
	}
	if c.opts.Registry == nil {
		return errAlone
	}
	var q NodeRequest
	if err := read(r, &q); err != nil {
		return err
	}
	if err := checkWords(q.Who, q.Why, true); err != nil {
		return err
	}
	err := c.audited(r.Context(), deed{who: q.Who, action: "node " + do, target: name, detail: q.Why}, func() (string, error) {
		if do == deedLose {
			return "", c.opts.Registry.Lose(r.Context(), name, who(q.Who))
		}
		return "", c.opts.Registry.Retire(r.Context(), name, who(q.Who))
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return gift.Errorf(gift.NotFound, "there is no node %q: see manna node", name)
	case errors.Is(err, ledger.ErrHeld):
		return &gift.Error{Code: gift.BadRequest, Field: "name", Detail: err.Error()}
	case err != nil:
		return unregistered(err)
	}
	return c.nodes(w, r)
}

// unregistered is what a caller is told of a register that does not answer.
func unregistered(err error) error {
	if _, ok := errors.AsType[*gift.Error](err); ok {
		return err
	}
	return &gift.Error{Code: gift.Unavailable, Detail: "the register of nodes does not answer: " + err.Error(), RetryAfter: comeAgain}
}
