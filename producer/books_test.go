package producer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
)

// books is a ledger that has what it was told to take in of nodes' logs, and that
// is slow or dead as told.
type books struct {
	calls, underWay, most atomic.Int64
	before                func(call string) // nil: nothing is to be done

	mu     sync.Mutex
	err    error
	hung   bool
	asOf   time.Time
	claims map[gift.ClaimID][]ledger.ClaimRow // of each node one
	events map[gift.OrderID][]ledger.OrderEvent
	// through is how far each node's log has been taken in, of those that are not
	// retired. left are nodes that have left, taken in whole.
	through, left map[string]fallbacklog.Position
}

func newBooks() *books {
	return &books{through: map[string]fallbacklog.Position{"a": 0, "b": 0}, left: map[string]fallbacklog.Position{}, claims: map[gift.ClaimID][]ledger.ClaimRow{}, events: map[gift.OrderID][]ledger.OrderEvent{}}
}

// take takes a node's log in up to now.
func (b *books) take(f *fixture) {
	f.t.Helper()
	batch := ledger.Batch{Node: f.log.Node(), Outcomes: true}
	r := f.log.Reader(0)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			break
		}
		if err != nil {
			f.t.Fatal(err)
		}
		batch.Add(rec)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.through[f.log.Node()] = f.log.End()
	for _, c := range batch.Claims {
		others := slices.DeleteFunc(b.claims[c.ID], func(had ledger.ClaimRow) bool { return had.Node == c.Node })
		b.claims[c.ID] = append(others, c)
	}
	replaced := map[gift.OrderID]bool{}
	for _, e := range batch.Events {
		if !replaced[e.Order] {
			replaced[e.Order] = true
			kept := []ledger.OrderEvent{}
			for _, had := range b.events[e.Order] {
				if had.Node != e.Node {
					kept = append(kept, had)
				}
			}
			b.events[e.Order] = kept
		}
		b.events[e.Order] = append(b.events[e.Order], e)
	}
	b.asOf = f.clock.now()
}

// about tells before which call it is.
func (b *books) about(call string) {
	if b.before != nil {
		b.before(call)
	}
}

// is sets how the ledger fails.
func (b *books) is(err error, hung bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.hung = err, hung
}

func (b *books) do(ctx context.Context, call func() error) error {
	b.calls.Add(1)
	now := b.underWay.Add(1)
	defer b.underWay.Add(-1)
	for most := b.most.Load(); now > most && !b.most.CompareAndSwap(most, now); most = b.most.Load() {
	}
	b.mu.Lock()
	hung := b.hung
	b.mu.Unlock()
	if hung {
		<-ctx.Done()
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return call()
}

func (b *books) Order(ctx context.Context, id gift.OrderID) (row ledger.OrderRow, err error) {
	err = b.do(ctx, func() error {
		row = ledger.OrderRow{Order: gift.Order{ID: id}, Events: b.events[id], OrderState: ledger.Fold(b.events[id]), AsOf: b.asOf}
		for _, records := range b.claims {
			for _, c := range records {
				for _, o := range c.Orders {
					if o.ID == id {
						row.Order, row.Claim = o, c
						return nil
					}
				}
			}
		}
		if len(row.Events) == 0 {
			return fmt.Errorf("order %v: %w", id, ledger.ErrNotFound)
		}
		return nil
	})
	return row, err
}

func (b *books) Claim(ctx context.Context, id gift.ClaimID) (s ledger.ClaimStanding, err error) {
	err = b.do(ctx, func() error {
		stands := ledger.Stands(b.claims[id], b.events)
		if stands < 0 {
			return fmt.Errorf("claim %v: %w", id, ledger.ErrNotFound)
		}
		s = ledger.ClaimStanding{Claim: b.claims[id][stands], Events: maps.Clone(b.events), AsOf: b.asOf}
		for _, o := range s.Claim.Orders {
			s.Orders = append(s.Orders, ledger.Fold(b.events[o.ID]))
		}
		return nil
	})
	return s, err
}

// Lags are those of the nodes that have been taken in.
func (b *books) Lags(ctx context.Context) (lags []ledger.Lag, err error) {
	b.about("lags")
	err = b.do(ctx, func() error {
		for node, at := range b.through {
			lags = append(lags, ledger.Lag{Node: node, Position: at, AsOf: b.asOf})
		}
		return nil
	})
	return lags, err
}

// Nodes are those that have left, and those that are taken in.
func (b *books) Nodes(ctx context.Context) (nodes []ledger.Node, now time.Time, err error) {
	err = b.do(ctx, func() error {
		for node := range b.through {
			nodes = append(nodes, ledger.Node{Name: node, State: ledger.NodeUp})
		}
		for node, end := range b.left {
			nodes = append(nodes, ledger.Node{Name: node, State: ledger.NodeLeft, LogEnd: end})
		}
		return nil
	})
	return nodes, b.asOf, err
}

func (b *books) UserClaims(ctx context.Context, user string, _ ledger.Cursor, limit int) (rows []ledger.ClaimRow, asOf time.Time, _ ledger.Cursor, err error) {
	err = b.do(ctx, func() error {
		asOf = b.asOf
		for _, records := range b.claims {
			c := records[ledger.Stands(records, nil)]
			if c.User == user && len(rows) < limit {
				c.Orders = nil
				rows = append(rows, c)
			}
		}
		return nil
	})
	return rows, asOf, ledger.Cursor{}, err
}

// pair opens the fronts of nodes a and b, which read each other's logs in books.
// What a records b's guard knows, as a guard would that both share.
func pair(t *testing.T) (a, b *fixture, books *books, shared *knowing) {
	books = newBooks()
	shared = &knowing{newMemoryGuard(), map[gift.ClaimID]Recorded{}}
	a = openNode(t, "a", crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere = books })
	b = openNode(t, "b", crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere, o.Guard = books, steadfast{shared} })
	return a, b, books, shared
}
