package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"manna/gift"
	"manna/ledger"
)

// Leases are what a front needs that shares the gifts' stock with others.
type Leases struct {
	Stock Lender
	// Holder is this process, once it has joined the registry, and says why it has
	// not before. Its epoch rises when it joins again.
	Holder func() (ledger.Holder, error)
	// Ahead is for how long the stock that is leased ahead lasts at the present pace:
	// what a dead ledger does not stop. Near the end of a stock it is less. Default
	// 10 s.
	Ahead time.Duration
}

// Lender parts the gifts' stock among nodes: ledger.Stock, which says what each
// method promises.
type Lender interface {
	Lease(ctx context.Context, k ledger.StockKey, h ledger.Holder, ask ledger.Ask) (ledger.Lease, error)
	Return(ctx context.Context, k ledger.StockKey, h ledger.Holder, seen ledger.Lease, keep int64) (ledger.Lease, error)
	Leases(ctx context.Context, k ledger.StockKey) (ledger.Pool, []ledger.Lease, error)
}

const (
	// lessorEvery is how often the shares are looked through.
	lessorEvery = 100 * time.Millisecond
	// poolEvery is how often the pool of a gift is read that is being claimed.
	poolEvery = time.Second
	// dryFor is how long the ledger's word counts that nothing is left. It is asked
	// again each poolEvery, so this only matters once it does not answer.
	dryFor = 5 * time.Second
	// leaseWithin bounds a call, and endWithin all those at the end.
	leaseWithin, endWithin = 2 * time.Second, 5 * time.Second
)

var (
	errLessorStopped = errors.New("this node is going down")
	errLessorSlow    = errors.New("the ledger takes its time")
)

// lessor gets this node's shares from the ledger before they are needed, and gives
// back what is not. Only run calls the ledger, one call at a time, as Stock wants.
//
// A share is only used once the ledger has confirmed it to this process: after a
// restart, or when the node was declared lost, it may be less than it was.
type lessor struct {
	opts     Leases
	stock    *stock
	snapshot func() *Snapshot
	now      func() time.Time
	logger   *slog.Logger
	kick     chan struct{} // of one: a claim waits
	looked   atomic.Bool   // a first round is over, well or not

	parts map[stockKey]*part // run's own
	epoch int64              // of the process that the shares were leased for; run's own

	mu    sync.Mutex // guards the next fields
	err   error      // why nothing can be leased; nil where it can
	rest  time.Time  // until when the ledger is left alone
	began time.Time  // of the call under way; zero where there is none
}

func newLessor(s *stock, opts Leases, snapshot func() *Snapshot, now func() time.Time, logger *slog.Logger) *lessor {
	def(&opts.Ahead, 10*time.Second)
	return &lessor{opts: opts, stock: s, snapshot: snapshot, now: now, logger: logger, kick: make(chan struct{}, 1), parts: make(map[stockKey]*part)}
}

// take is stock.take over shares. Whether a gift is low only the pool and this
// node's own share tell, so it may be held for low while others still have some.
func (l *lessor) take(ctx context.Context, e *entitlement, p *patience) (*gift.Gift, error) {
	asked, instead := e.gift, e.instead()
	n := l.stock.of(e.campaign.Name, asked.Name)
	choice := []*gift.Gift{asked, instead}
	if instead != nil && n.low(asked.LowUnder) {
		choice = []*gift.Gift{instead, asked}
	}
	var unsure error
	for _, g := range choice {
		if g == nil {
			continue
		}
		got, err := l.takeOf(ctx, e.campaign, g, p)
		switch {
		case got:
			return g, nil
		case err != nil && g == asked:
			// There may be some. What is given when it is low is not given for it.
			return nil, err
		case err != nil:
			unsure = err
		}
	}
	if unsure != nil {
		return nil, unsure
	}
	return nil, soldOut(asked)
}

// takeOf takes one, and waits where this node has none and the ledger may have. Its
// error says that it cannot be known now.
func (l *lessor) takeOf(ctx context.Context, c *campaign, g *gift.Gift, p *patience) (got bool, err error) {
	n := l.stock.of(c.Name, g.Name)
	if g.Stock == 0 {
		n.Add(1)
		return true, nil
	}
	for {
		how, changed := n.grasp(g.Stock)
		if how != noneHere {
			return how == grasped, nil
		}
		if l.wait(ctx, changed, p) != nil {
			return false, &gift.Error{Code: gift.Unavailable, Detail: "this node has no more of gift " + g.Name + " and cannot learn now whether any is left; come again", RetryAfter: soon()}
		}
	}
}

// wait waits for the lessor to have looked, unless that is known to be in vain.
func (l *lessor) wait(ctx context.Context, changed <-chan struct{}, p *patience) error {
	bounded, cancel := p.bound(ctx)
	defer cancel()
	l.mu.Lock()
	err, began := l.err, l.began
	l.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case l.kick <- struct{}{}:
	default:
	}
	if !began.IsZero() {
		// Claims do not gather behind a call that hangs.
		var stop context.CancelFunc
		bounded, stop = context.WithDeadlineCause(bounded, began.Add(patient), errLessorSlow)
		defer stop()
	}
	select {
	case <-changed:
		return nil
	case <-bounded.Done():
		return context.Cause(bounded)
	}
}

// trouble is why nothing can be leased, nil where it can.
func (l *lessor) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// run looks through the shares until ctx ends, and gives back what is left then.
func (l *lessor) run(ctx context.Context) {
	tick := time.NewTicker(lessorEvery)
	defer tick.Stop()
	// A call that has begun is not cut off: what came of it would be in doubt.
	calls := context.WithoutCancel(ctx)
	for {
		l.round(calls)
		l.looked.Store(true)
		select {
		case <-tick.C:
		case <-l.kick:
		case <-ctx.Done():
			l.end(calls)
			return
		}
	}
}

// round looks at every gift whose stock is shared.
func (l *lessor) round(ctx context.Context) {
	l.mu.Lock()
	resting := time.Now().Before(l.rest)
	l.mu.Unlock()
	if resting {
		l.wakeAll()
		return
	}
	gifts := l.gifts()
	if len(gifts) == 0 && len(l.parts) == 0 {
		return
	}
	h, err := l.holder()
	if err != nil {
		l.fail(err)
		return
	}
	seen := make(map[stockKey]bool)
	for _, g := range gifts {
		seen[g.key] = true
		if err := l.part(g.key).look(ctx, h, g.campaign, g.total); err != nil {
			l.fail(err)
			return
		}
	}
	for key, p := range l.parts {
		if !seen[key] { // it has no stock any more, or is not configured
			if err := p.giveUp(ctx, h); err != nil {
				l.fail(err)
				return
			}
		}
	}
	// Where nothing needed a call, nobody knows whether the ledger is back.
	for _, p := range l.parts {
		if l.trouble() == nil {
			return
		}
		if err := p.readPool(ctx, h, p.total); err != nil {
			l.fail(err)
			return
		}
	}
}

// limited is a gift whose stock has an end.
type limited struct {
	key      stockKey
	campaign *campaign
	total    int64
}

// gifts are those whose stock is shared, in the order of the configuration.
func (l *lessor) gifts() (all []limited) {
	for _, c := range l.snapshot().all {
		for _, g := range c.Gifts {
			if g.Stock > 0 {
				all = append(all, limited{stockKey{c.Name, g.Name}, c, g.Stock})
			}
		}
	}
	return all
}

// part gives what is known of a gift, at first only how many were handed out.
func (l *lessor) part(key stockKey) *part {
	p := l.parts[key]
	if p == nil {
		p = &part{lessor: l, key: ledger.StockKey{Campaign: key.campaign, Gift: key.gift}, taken: l.stock.of(key.campaign, key.gift)}
		p.was = p.taken.Load()
		l.parts[key] = p
	}
	return p
}

// holder gives this process as the registry knows it. Under a new epoch nothing
// that was leased before counts until the ledger says so: others may have it.
func (l *lessor) holder() (ledger.Holder, error) {
	h, err := l.opts.Holder()
	if err != nil {
		return h, fmt.Errorf("this node has not joined: %w", err)
	}
	if h.Epoch != l.epoch {
		l.forget()
		l.epoch = h.Epoch
	}
	return h, nil
}

// forget lets go of all shares without a word.
func (l *lessor) forget() {
	for _, p := range l.parts {
		p.sure = false
		p.taken.cut(0)
	}
}

// call makes a call to the ledger.
func (l *lessor) call(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	l.mu.Lock()
	l.began = time.Now()
	l.mu.Unlock()
	err := do(ctx)
	l.mu.Lock()
	l.began = time.Time{}
	before := l.err
	if err == nil {
		l.err = nil
	}
	l.mu.Unlock()
	if err == nil && before != nil {
		l.logger.Info("stock is leased again", "was", before)
	}
	return err
}

// fail notes why nothing can be leased, and tells where that is news. Who waits
// hears of it.
func (l *lessor) fail(err error) {
	if errors.Is(err, ledger.ErrFenced) {
		// The node was given up, and its shares may be others' by now.
		l.forget()
	}
	l.mu.Lock()
	before := l.err
	l.err, l.rest = err, time.Now().Add(restFor)
	l.mu.Unlock()
	if before == nil {
		l.logger.Error("no stock can be leased: claims go on with what this node holds, and are unavailable for gifts of which it holds none", "err", err)
	}
	l.wakeAll()
}

func (l *lessor) wakeAll() {
	for _, n := range *l.stock.taken.Load() {
		n.share.wake()
	}
}

// end gives back what is left of every share.
func (l *lessor) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	h, err := l.holder()
	for _, p := range l.parts {
		if err == nil {
			err = p.giveUp(ctx, h)
		}
	}
	if err != nil {
		l.logger.Warn("what is left of the leased stock is not given back: it stays this node's until it starts again or is settled", "err", err)
	}
	l.mu.Lock()
	l.err, l.rest = errLessorStopped, time.Time{}
	l.mu.Unlock()
	l.wakeAll()
}
