package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// elsewhereWithin bounds what is asked of the ledger for one story.
const elsewhereWithin = 2 * time.Second

// told is an order's story out of the logs of all nodes.
type told struct {
	*fallbacklog.Story
	nodes []string  // of each record, "" for this one
	asOf  time.Time // whatever any log had before is in it; zero where all is
}

// find puts together what this node's log says of an order and what the ledger knows
// of the other nodes'. Of each of those it has the last outcome, attempt and reissue.
// Where it does not answer, the story is this node's, as of the claim.
func (c *Console) find(ctx context.Context, id gift.OrderID) (*told, error) {
	own, err := c.opts.Log.Told(id)
	if err != nil {
		return nil, err
	}
	missing := gift.Errorf(gift.NotFound, "no order %v in the log of node %s; if it is a claim's id: manna claim %v", id, c.opts.Log.Node(), id)
	if c.opts.Cluster == nil {
		if own.Claim == nil {
			return nil, missing
		}
		return &told{Story: own, nodes: make([]string, len(own.Records))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, elsewhereWithin)
	defer cancel()
	row, err := c.opts.Cluster.Order(ctx, id)
	switch {
	case err == nil && (own.Claim != nil || !row.Claim.ClaimedAt.IsZero()):
		return c.together(own, &row), nil
	case own.Claim != nil:
		return &told{Story: own, nodes: make([]string, len(own.Records)), asOf: own.Claim.ClaimedAt}, nil
	case errors.Is(err, ledger.ErrNotFound):
		return nil, gift.Errorf(gift.NotFound, "no order %v in the log of node %s, nor in the ledger yet; if it is a claim's id: manna claim %v", id, c.opts.Log.Node(), id)
	case err == nil:
		return nil, &gift.Error{Code: gift.Unavailable, Detail: fmt.Sprintf("the ledger knows of order %v by what became of it, and its claim has not been taken in yet", id), RetryAfter: comeAgain}
	}
	return nil, &gift.Error{Code: gift.Unavailable, Detail: fmt.Sprintf("order %v is not in the log of node %s, and the ledger does not answer: %v", id, c.opts.Log.Node(), err), RetryAfter: comeAgain}
}

// together tells what happened by its times. Where the order stands ledger.Fold says,
// here as everywhere.
func (c *Console) together(own *fallbacklog.Story, row *ledger.OrderRow) *told {
	type piece struct {
		rec  *fallbacklog.Record
		node string
	}
	var all []piece
	for _, rec := range own.Records {
		all = append(all, piece{rec, ""})
	}
	known := ledger.EventsOf(c.opts.Log.Node(), own.Records)
	t := &told{Story: &fallbacklog.Story{Claim: own.Claim, Order: own.Order, Origin: own.Origin}, asOf: row.AsOf}
	if t.Claim == nil {
		t.Claim, t.Order = claimOf(&row.Claim), row.Order
		t.Claim.Orders = []gift.Order{row.Order}
		all = append(all, piece{&fallbacklog.Record{Kind: fallbacklog.Claimed, Time: t.Claim.ClaimedAt, At: row.Claim.At, Claim: t.Claim}, row.Claim.Node})
	}
	for i := range row.Events {
		if e := &row.Events[i]; e.Node != c.opts.Log.Node() {
			all = append(all, piece{recordOf(e), e.Node})
			known = append(known, *e)
		}
	}
	slices.SortStableFunc(all, func(a, b piece) int {
		switch {
		case a.rec.Claim != nil && b.rec.Claim == nil: // whatever the clocks say
			return -1
		case a.rec.Claim == nil && b.rec.Claim != nil:
			return 1
		}
		return a.rec.Time.Compare(b.rec.Time)
	})
	for _, p := range all {
		t.Records = append(t.Records, p.rec)
		t.nodes = append(t.nodes, p.node)
	}
	s := ledger.Fold(known)
	t.State, t.Open, t.Attempts, t.Queries, t.Due = s.State, s.Open, s.Attempts, s.Queries, s.Due
	t.Reference, t.Voucher, t.Code, t.Reason, t.Run = s.Reference, s.Voucher, s.Code, s.Reason, s.Run
	if t.Updated = s.Updated; t.Updated.Before(t.Claim.ClaimedAt) {
		t.Updated = t.Claim.ClaimedAt
	}
	return t
}

func claimOf(r *ledger.ClaimRow) *gift.Claim {
	return &gift.Claim{ID: r.ID, Campaign: r.Campaign, Scene: r.Scene, Stage: r.Stage, User: r.User, Gift: r.Gift, ClaimedAt: r.ClaimedAt, DeliverBy: r.DeliverBy, Orders: r.Orders}
}

func recordOf(e *ledger.OrderEvent) *fallbacklog.Record {
	return &fallbacklog.Record{Kind: e.Kind, Time: e.Time, At: e.At, Event: &fallbacklog.Event{
		Order: e.Order, Claim: e.Claim, Campaign: e.Campaign, Partner: e.Partner, Attempts: e.Attempts, Queries: e.Queries,
		Due: e.Due, Reference: e.Reference, Voucher: e.Voucher, Code: e.Code, Reason: e.Reason, Run: e.Run,
	}}
}

// tell makes the story readable.
func (t *told) tell(now time.Time) Story {
	s := Tell(t.Story, now)
	s.AsOf = t.asOf
	for i, node := range t.nodes {
		s.Lines[i].Node = node
	}
	return s
}
