package producer

import (
	"context"
	"errors"
	"slices"
	"time"

	"manna/ledger"
)

const (
	// wakeBefore is how long before a campaign opens its gifts are leased.
	wakeBefore = time.Minute
	// idleAfter is for how long a gift is not claimed that is not leased ahead.
	idleAfter = 5 * time.Second
	// leastAhead is how many are leased at a time of a stock that is large enough.
	leastAhead = 64
)

// part is what the lessor knows of one gift. It belongs to the lessor's goroutine.
type part struct {
	lessor *lessor
	key    ledger.StockKey
	taken  *counter

	// lease is what the ledger said last; sure is false where it may be another by
	// now, and then a Lease comes before everything else.
	lease ledger.Lease
	sure  bool
	pool  ledger.Pool
	nodes int64     // that hold a lease, this one included
	total int64     // of the stock, when the pool was read
	read  time.Time // when the pool was

	was      int64     // how many had been taken when that was measured
	measured time.Time // zero before the first time
	pace     float64   // claims a second
	claimed  time.Time // when the gift was last claimed
}

// look brings the share to what is needed.
func (p *part) look(ctx context.Context, h ledger.Holder, c *campaign, total int64) error {
	defer p.taken.share.wake()
	wanted, waiting := p.measure()
	now := p.lessor.now()
	if !now.Before(c.Closes) && wanted == 0 {
		return p.giveUp(ctx, h)
	}
	opening := !now.Before(c.Opens.Add(-wakeBefore)) && now.Before(c.Opens.Add(idleAfter))
	claimed := opening || time.Since(p.claimed) < idleAfter
	left := p.taken.left()
	due := time.Since(p.read) >= poolEvery && (claimed || left > 0)
	short := func(aim int64) bool { return claimed && left <= aim/2 && left < aim }
	if p.sure && !due && !waiting && !short(p.aim(wanted, left, total)) {
		return nil
	}
	if !p.sure {
		// No more than what was handed out: what this wants is to know the lease, which
		// an earlier process may have left behind.
		if err := p.ask(ctx, h, total, p.taken.Load()); err != nil {
			return err
		}
	}
	if err := p.readPool(ctx, h, total); err != nil {
		return err
	}
	if !p.sure {
		return p.ask(ctx, h, total, p.taken.Load())
	}
	left = p.taken.left()
	aim := p.aim(wanted, left, total)
	switch scarce := p.free(total) < left; {
	case short(aim):
		err := p.ask(ctx, h, total, p.taken.Load()+aim)
		if err == nil {
			p.taken.share.note(p.free(total), total)
		}
		return err
	case scarce && !claimed:
		return p.giveBack(ctx, h, 0)
	case scarce && left > 2*aim:
		return p.giveBack(ctx, h, aim)
	}
	return nil
}

// measure tells how many claims found nothing since it was last called, and whether
// any wait. It keeps the pace.
func (p *part) measure() (wanted int64, waiting bool) {
	wanted, waiting = p.taken.share.demand()
	taken, now := p.taken.Load(), time.Now()
	if wanted > 0 || taken != p.was {
		p.claimed = now
	}
	if p.measured.IsZero() {
		p.measured = now
	}
	if passed := now.Sub(p.measured); passed >= lessorEvery {
		// It rises at once and falls slowly: claims come in bursts.
		p.pace = max(float64(taken-p.was)/passed.Seconds(), p.pace*0.9)
		p.was, p.measured = taken, now
	}
	return wanted, waiting
}

// free is what is left in the pool; below zero where a total was lowered.
func (p *part) free(total int64) int64 { return total + p.pool.Refunded - p.pool.Held }

// aim is how many this node should have: what its pace needs, but not more than its
// part of what is left, so that near the end of a stock no node sits on what others
// could hand out.
func (p *part) aim(wanted, left, total int64) int64 {
	ahead := max(leastAhead, 2*wanted, int64(p.pace*p.lessor.opts.Ahead.Seconds()))
	fair := 2 * max(1, p.nodes)
	return min(ahead, (max(0, p.free(total)+left)+fair-1)/fair)
}

// readPool reads what is left for all. Where somebody has changed this node's lease,
// nothing more is handed out of it until the ledger has confirmed it.
func (p *part) readPool(ctx context.Context, h ledger.Holder, total int64) error {
	var pool ledger.Pool
	var leases []ledger.Lease
	err := p.lessor.call(ctx, func(ctx context.Context) (err error) {
		pool, leases, err = p.lessor.opts.Stock.Leases(ctx, p.key)
		return err
	})
	if err != nil {
		return err
	}
	p.pool, p.nodes, p.total, p.read = pool, int64(len(leases)), total, time.Now()
	i := slices.IndexFunc(leases, func(l ledger.Lease) bool { return l.Node == h.Node })
	if p.sure && (i < 0 || leases[i].Version != p.lease.Version) {
		p.sure = false
		p.taken.cut(0)
	}
	p.taken.share.note(p.free(total), total)
	return nil
}

// ask raises the lease. Afterwards it is as the ledger says.
func (p *part) ask(ctx context.Context, h ledger.Holder, total, upTo int64) error {
	used := p.taken.Load()
	p.sure = false
	var lease ledger.Lease
	err := p.lessor.call(ctx, func(ctx context.Context) (err error) {
		lease, err = p.lessor.opts.Stock.Lease(ctx, p.key, h, ledger.Ask{Total: total, Used: used, UpTo: upTo})
		return err
	})
	if errors.Is(err, ledger.ErrOverdrawn) {
		p.lessor.logger.Error("more of a gift was handed out than this node had leased; it is counted now", "campaign", p.key.Campaign, "gift", p.key.Gift, "err", err)
		err = nil
	}
	if err != nil {
		return err
	}
	p.pool.Held += max(0, lease.Held-p.lease.Held)
	p.lease, p.sure = lease, true
	p.taken.share.hold(lease.Held)
	return nil
}

// giveBack lowers the lease so that spare are left. Nothing of what goes back is
// handed out here from before the call on, whatever comes of it.
func (p *part) giveBack(ctx context.Context, h ledger.Holder, spare int64) error {
	keep := p.taken.cut(spare)
	if keep >= p.lease.Held {
		return nil
	}
	p.sure = false
	var lease ledger.Lease
	err := p.lessor.call(ctx, func(ctx context.Context) (err error) {
		lease, err = p.lessor.opts.Stock.Return(ctx, p.key, h, p.lease, keep)
		return err
	})
	switch {
	case errors.Is(err, ledger.ErrLeaseChanged):
		return nil // the next look asks how it is
	case err != nil:
		return err
	}
	p.pool.Held -= p.lease.Held - lease.Held
	p.lease, p.sure = lease, true
	return nil
}

// giveUp gives back what is left.
func (p *part) giveUp(ctx context.Context, h ledger.Holder) error {
	if !p.sure {
		if err := p.ask(ctx, h, 0, 0); err != nil {
			return err
		}
	}
	return p.giveBack(ctx, h, 0)
}
