package producer

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"manna/gift"
)

// stock counts what has been taken of each gift. Totals come from the snapshot,
// so a reload that changes one keeps the count. Safe for concurrent use.
type stock struct {
	lessor *lessor    // nil where this node has all of it
	mu     sync.Mutex // held while a counter is added
	taken  atomic.Pointer[map[stockKey]*counter]
}

type stockKey struct{ campaign, gift string }

// counter is how many of a gift this node has handed out, and where nodes share
// its stock, how many it may.
type counter struct {
	atomic.Int64
	share share
}

func newStock() *stock {
	s := &stock{}
	s.taken.Store(&map[stockKey]*counter{})
	return s
}

// of gives the counter of a gift.
func (s *stock) of(campaign, name string) *counter {
	key := stockKey{campaign, name}
	if n := (*s.taken.Load())[key]; n != nil {
		return n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The map that readers see is never changed; gifts are few and come with a
	// configuration.
	next := maps.Clone(*s.taken.Load())
	if next[key] == nil {
		next[key] = new(counter)
		s.taken.Store(&next)
	}
	return next[key]
}

// take takes one of the gift that was asked for or, where that is low, of the one
// that is given instead, and says of which. Nobody is told `sold_out` while either
// is left. Where nodes share the stock it may wait for more of it, within p.
func (s *stock) take(ctx context.Context, e *entitlement, p *patience) (*gift.Gift, error) {
	if s.lessor != nil {
		return s.lessor.take(ctx, e, p)
	}
	c, asked := e.campaign, e.gift
	if s.takeOf(c, asked, asked.LowUnder) {
		return asked, nil
	}
	if instead := e.instead(); instead != nil && s.takeOf(c, instead, 0) {
		return instead, nil
	}
	if s.takeOf(c, asked, 0) {
		return asked, nil
	}
	return nil, soldOut(asked)
}

// instead is the gift that is given while the one asked for is low; nil where there
// is none.
func (e *entitlement) instead() *gift.Gift {
	if g := e.campaign.gifts[e.gift.Instead]; g != nil && fits(g, e.platform) {
		return g
	}
	return nil
}

func soldOut(g *gift.Gift) error {
	return &gift.Error{Code: gift.SoldOut, Detail: "nothing is left of gift " + g.Name}
}

// takeOf takes one where at least keep are left, and at least one.
func (s *stock) takeOf(c *campaign, g *gift.Gift, keep int64) bool {
	n := s.of(c.Name, g.Name)
	if g.Stock == 0 {
		n.Add(1)
		return true
	}
	for {
		taken := n.Load()
		if g.Stock-taken < max(keep, 1) {
			return false
		}
		if n.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

// giveBack undoes a take.
func (s *stock) giveBack(campaign, name string, count int64) { s.of(campaign, name).Add(-count) }
