package producer

import (
	"maps"
	"sync"
	"sync/atomic"

	"manna/gift"
)

// stock counts what has been taken of each gift. Totals come from the snapshot,
// so a reload that changes one keeps the count. Safe for concurrent use.
type stock struct {
	mu    sync.Mutex // held while a counter is added
	taken atomic.Pointer[map[stockKey]*atomic.Int64]
}

type stockKey struct{ campaign, gift string }

func newStock() *stock {
	s := &stock{}
	s.taken.Store(&map[stockKey]*atomic.Int64{})
	return s
}

// of gives the counter of a gift.
func (s *stock) of(campaign, name string) *atomic.Int64 {
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
		next[key] = new(atomic.Int64)
		s.taken.Store(&next)
	}
	return next[key]
}

// take takes one of the gift that was asked for or, where that is low, of the one
// that is given instead, and says of which. Nobody is told `sold_out` while either
// is left.
func (s *stock) take(e *entitlement) (*gift.Gift, error) {
	c, asked := e.campaign, e.gift
	if s.takeOf(c, asked, asked.LowUnder) {
		return asked, nil
	}
	if instead := c.gifts[asked.Instead]; instead != nil && fits(instead, e.platform) && s.takeOf(c, instead, 0) {
		return instead, nil
	}
	if s.takeOf(c, asked, 0) {
		return asked, nil
	}
	return nil, &gift.Error{Code: gift.SoldOut, Detail: "nothing is left of gift " + asked.Name}
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
