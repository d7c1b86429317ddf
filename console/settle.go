package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// Settlement says what became of the stock that a node had leased.
type Settlement struct {
	Node   string               `json:"node"` // or the name that the leases of a former log go by
	Log    string               `json:"log,omitempty"`
	LogEnd fallbacklog.Position `json:"log_end"`
	Gifts  []SettledGift        `json:"gifts"`
	// Formers are leases of former logs of the node, each to be settled by its own log.
	Formers []string `json:"formers,omitempty"`
}

// SettledGift is one lease. More used than leased means that the lease had been settled
// by a log that was not whole; it is raised to what was used then.
type SettledGift struct {
	Campaign  string `json:"campaign"`
	Gift      string `json:"gift"`
	Leased    int64  `json:"leased"`
	Used      int64  `json:"used"`
	GivenBack int64  `json:"given_back"`
}

// Left is what a node has left of its log, open for reading.
type Left struct {
	Log LeftLog
	// Where it was found, for people.
	Where string
	// Home is that of the data directory it is in; empty in an archive.
	Home string
}

// LeftLog is a log that nobody writes any more, or that does not change while it is
// read; fallbacklog.ArchivedLog says what each method promises.
type LeftLog interface {
	ledger.Log
	Losses(ctx context.Context) ([]fallbacklog.Loss, error)
	Tip() fallbacklog.Position
	Close() error
}

// ErrUnarchived: an archive does not have the log, or there is none.
var ErrUnarchived = errors.New("its log is in no archive")

// Logs opens what is left of a node's log. Errors: ErrUnarchived.
type Logs func(ctx context.Context, node string) (Left, error)

// Settle counts what a node has handed out, by its whole log, and gives the rest of its
// leases back. The log is whole where it reaches as far as the register has heard of it
// and nothing can have been written behind that:
//
//   - one in an archive, where its node has left in order, which tells the end; and it is
//     the one that the ledger has followed, for under one name there may have been
//     several
//   - one in a data directory of the home that the register knows, which is the log
//     itself; that it is no copy of it is the word of the person who names it
//
// Nothing is given back by a log that has lost records. Errors are *gift.Error; after one
// that does not say what is wrong with the log a part may be settled, and settling again
// is harmless.
func (g *Register) Settle(ctx context.Context, name string, q NodeRequest, open Logs) (Settlement, error) {
	if err := checkWords(q.Who, q.Why, true); err != nil {
		return Settlement{}, err
	}
	e, err := g.ledger.Estate(ctx, name)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return Settlement{}, gift.Errorf(gift.NotFound, "there is no node %q, and no leases of this name: see manna node", name)
	case err != nil:
		return Settlement{}, unregistered(err)
	case e.State == ledger.NodeUp:
		return Settlement{}, unsettled(&e, "it is up, and may still be handing out its stock: stop it, which gives back what is left, or declare it lost")
	}
	s := Settlement{Node: name, LogEnd: e.LogEnd, Gifts: []SettledGift{}, Formers: e.Formers}
	if len(e.Leases) == 0 {
		return s, nil
	}
	node, former := ledger.FormerOf(name)
	if !former {
		node = name
	}
	left, err := open(ctx, node)
	if errors.Is(err, ErrUnarchived) {
		return Settlement{}, unsettled(&e, err.Error()+": "+byDisk(&e))
	}
	if err != nil {
		return Settlement{}, unsettled(&e, err.Error())
	}
	defer left.Log.Close()
	used, err := g.count(ctx, &e, node, &left)
	if err != nil {
		return Settlement{}, err
	}
	s.Log, s.LogEnd = left.Where, left.Log.Tip()
	err = g.audited(ctx, deed{who: q.Who, action: "node settle", target: name, detail: q.Why}, func() (string, error) {
		back := int64(0)
		for _, lease := range e.Leases {
			n := SettledGift{Campaign: lease.Campaign, Gift: lease.Gift, Leased: lease.Held, Used: max(0, used[lease.StockKey])}
			n.GivenBack = max(0, n.Leased-n.Used)
			if _, err := g.ledger.Settle(ctx, lease.StockKey, e.Holder, n.Used); err != nil && !errors.Is(err, ledger.ErrOverdrawn) {
				return "", err
			}
			back += n.GivenBack
			s.Gifts = append(s.Gifts, n)
		}
		return fmt.Sprintf("%s: %d given back, by its log up to %v in %s", q.Why, back, s.LogEnd, s.Log), nil
	})
	switch {
	case errors.Is(err, ledger.ErrHeld), errors.Is(err, ledger.ErrLeaseChanged), errors.Is(err, ledger.ErrNotFound):
		return Settlement{}, unsettled(&e, "it was started while its log was read: "+err.Error())
	case err != nil:
		return Settlement{}, unregistered(err)
	}
	return s, nil
}

// count counts what a log says was handed out, once it is known to be the whole log of
// the leases' holder.
func (g *Register) count(ctx context.Context, e *ledger.Estate, node string, left *Left) (map[ledger.StockKey]int64, error) {
	_, former := ledger.FormerOf(e.Holder.Node)
	tip := left.Log.Tip()
	switch {
	case former && e.Home == "":
		return nil, unsettled(e, "a log with the same home has taken the name since, and nobody can tell the two apart: this stays for good")
	case left.Home == "" && former:
		return nil, unsettled(e, left.Where+" does not say which log of this name it has: "+byDisk(e))
	case left.Home != "" && left.Home != e.Home:
		return nil, unsettled(e, left.Where+" is not the one that the node had (its home.id is another): name the node's own")
	case left.Home == "" && !e.Ended:
		return nil, unsettled(e, fmt.Sprintf("it has not left in order: it was last heard of with its log up to %v, %s has that up to %v, and what it handed out afterwards may be nowhere else than on its disk: %s", e.LogEnd, left.Where, tip, byDisk(e)))
	case tip.Short(e.LogEnd):
		return nil, unsettled(e, fmt.Sprintf("its log ends at %v, and %s has it up to %v: %s", e.LogEnd, left.Where, tip, byDisk(e)))
	}
	if !former {
		if err := g.followed(ctx, e, node, left); err != nil {
			return nil, err
		}
	}
	losses, err := left.Log.Losses(ctx)
	if err == nil && len(losses) > 0 {
		return nil, unsettled(e, "its log is not whole: "+losses[0].String()+": where the archive has what was lost, bring it back with manna log restore, and settle by the data directory")
	}
	var used map[ledger.StockKey]int64
	if err == nil {
		used, err = ledger.HandedOut(ctx, left.Log)
	}
	if err != nil {
		return nil, unsettled(e, left.Where+" cannot be read: "+err.Error())
	}
	return used, nil
}

// byDisk is how a log is had that no archive has to its end.
func byDisk(e *ledger.Estate) string {
	settle := fmt.Sprintf("manna node settle %s --data DIR", e.Holder.Node)
	if ledger.IsFormer(e.Holder.Node) {
		return "where the data directory of the old log was saved: " + settle
	}
	return "start it again on its own data directory and stop it, which gives back what is left; or, where that directory was saved: " + settle
}

// followed finds out whether a log is the one that the ledger has followed under the
// node's name.
func (g *Register) followed(ctx context.Context, e *ledger.Estate, node string, left *Left) error {
	place, err := g.ledger.Place(ctx, node)
	if err != nil {
		return unregistered(err)
	}
	if place.Mark.At == 0 {
		if left.Home != "" {
			return nil // its home says it
		}
		return unsettled(e, "the ledger has taken in nothing of its log, so that nobody can tell whether "+left.Where+" has that one")
	}
	rec, err := left.Log.Read(ctx, place.Mark.At)
	if errors.Is(err, fallbacklog.ErrNotFound) || err == nil && ledger.MarkOf(rec) != place.Mark {
		return unsettled(e, fmt.Sprintf("%s has another log than the one that the ledger followed up to %v: find out whose it is", left.Where, place.Position))
	}
	if err != nil {
		return unsettled(e, left.Where+" cannot be read: "+err.Error())
	}
	return nil
}

// mostNamed is how many gifts are named in an error.
const mostNamed = 5

// unsettled refuses, and says what that costs.
func unsettled(e *ledger.Estate, why string) error {
	var counted []string
	for _, lease := range e.Leases {
		if lease.Held > 0 {
			counted = append(counted, fmt.Sprintf("%d of %s/%s", lease.Held, lease.Campaign, lease.Gift))
		}
	}
	if more := len(counted) - mostNamed; more > 0 {
		counted = append(slices.Clip(counted[:mostNamed]), fmt.Sprintf("and %d more gifts", more))
	}
	if len(counted) > 0 {
		why += "; until then what it leased stays counted as handed out: at most " + strings.Join(counted, ", ")
	}
	if len(e.Formers) > 0 {
		why += "; its former logs' leases are settled one by one: " + strings.Join(e.Formers, ", ")
	}
	return &gift.Error{Code: gift.BadRequest, Field: "name", Detail: fmt.Sprintf("the stock of node %s is not settled: %s", e.Holder.Node, why)}
}

func (c *Console) settle(w http.ResponseWriter, r *http.Request) error {
	g, err := c.register()
	if err != nil {
		return err
	}
	var q NodeRequest
	if err := read(r, &q); err != nil {
		return err
	}
	s, err := g.Settle(r.Context(), r.PathValue("name"), q, c.opts.Logs)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, s)
	return nil
}
