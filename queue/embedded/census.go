package embedded

import (
	"context"
	"errors"
	"sync"

	"manna/fallbacklog"
)

// census counts the orders of each partner in sealed segments. It reads indexes
// and remembers what it found, so that lanes opened one after the other read each
// index once. Safe for concurrent use.
type census struct {
	mu       sync.Mutex
	segments map[uint32]map[string]block
}

// count gives the orders of a lane whose claims are in [from, to), as blocks.
func (c *census) count(ctx context.Context, log *fallbacklog.Log, partner string, from, to fallbacklog.Position) ([]block, error) {
	var found []block
	start := log.First().Offset()
	for _, x := range log.Indexes() {
		n := x.Segment()
		if n < from.Segment() {
			continue
		}
		// A segment without its index, and what follows it, is read.
		if n > from.Segment() || n >= to.Segment() {
			break
		}
		var b block
		var err error
		if from.Offset() > start {
			b, err = countFrom(ctx, x, partner, from)
		} else {
			b, err = c.whole(ctx, x, partner)
		}
		if err != nil {
			return nil, err
		}
		if b.orders > 0 {
			found = append(found, b)
		}
		from = fallbacklog.At(n+1, start)
	}
	if from >= to {
		return found, nil
	}
	rest := blocks{size: blockOrders}
	r := log.Reader(from, fallbacklog.Claimed)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) || err == nil && rec.At >= to {
			return append(found, rest.list...), nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if n := len(firsts(nil, rec, partner)); n > 0 {
			rest.add(rec.At, int64(n), claimedAt(rec))
		}
	}
}

// whole counts a partner's orders in a segment.
func (c *census) whole(ctx context.Context, x *fallbacklog.Index, partner string) (block, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if all, ok := c.segments[x.Segment()]; ok {
		return all[partner], nil
	}
	numbered := make(map[uint16]*block)
	for row, err := range x.All() {
		if err == nil && row.Kind != fallbacklog.Claimed {
			continue
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return block{}, err
		}
		if row.OfClaim {
			continue
		}
		b := numbered[row.Lane]
		if b == nil {
			b = new(block)
			numbered[row.Lane] = b
		}
		b.add(row.At, 1, row.Time)
	}
	all := make(map[string]block, len(numbered))
	for n, b := range numbered {
		all[x.Names().Name(n)] = *b
	}
	if c.segments == nil {
		c.segments = make(map[uint32]map[string]block)
	}
	c.segments[x.Segment()] = all
	return all[partner], nil
}

// countFrom counts a partner's orders in the part of a segment from from on.
func countFrom(ctx context.Context, x *fallbacklog.Index, partner string, from fallbacklog.Position) (b block, err error) {
	lane, ok := x.Names().Number(partner)
	if !ok {
		return b, nil
	}
	for row, err := range x.All() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return b, err
		}
		if row.Kind == fallbacklog.Claimed && !row.OfClaim && row.Lane == lane && row.At >= from {
			b.add(row.At, 1, row.Time)
		}
	}
	return b, nil
}
