package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"manna/gift"
	"manna/ledger"
)

// fault is what becomes of one call.
type fault int

const (
	works fault = iota
	fails       // and did nothing
	loses       // the answer: it was done
	lags        // it fails, and is done later
	hangs       // until the caller gives up
)

var errLedger = errors.New("no connection")

// lender is a ledger.Stock, with as much of a registry as it needs, that keeps to
// the contract, or fails as told.
type lender struct {
	fault atomic.Pointer[func() fault] // nil: it works
	calls atomic.Int64

	mu    sync.Mutex
	nodes map[string]*lenderNode
	pools map[ledger.StockKey]*lenderPool
	late  []func()
}

type lenderNode struct {
	epoch int64
	up    bool
}

type lenderPool struct {
	refunded map[gift.ClaimID]int64
	leases   map[string]ledger.Lease
}

func newLender() *lender {
	return &lender{nodes: map[string]*lenderNode{}, pools: map[ledger.StockKey]*lenderPool{}}
}

func (l *lender) pool(k ledger.StockKey) *lenderPool {
	if l.pools[k] == nil {
		l.pools[k] = &lenderPool{refunded: map[gift.ClaimID]int64{}, leases: map[string]ledger.Lease{}}
	}
	return l.pools[k]
}

func (p *lenderPool) sums() (sum ledger.Pool) {
	for _, lease := range p.leases {
		sum.Held += lease.Held
	}
	for _, n := range p.refunded {
		sum.Refunded += n
	}
	return sum
}

func (l *lender) set(f func() fault) {
	if f == nil {
		l.fault.Store(nil)
		return
	}
	l.fault.Store(&f)
}

// ask makes a call under the lender's lock, if it is to be made.
func ask[T any](ctx context.Context, l *lender, call func() (T, error)) (answer T, err error) {
	l.calls.Add(1)
	how := works
	if f := l.fault.Load(); f != nil {
		how = (*f)()
	}
	if how == hangs {
		<-ctx.Done()
		return answer, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch how {
	case works:
		return call()
	case loses:
		call()
	case lags:
		l.late = append(l.late, func() { call() })
	}
	return answer, errLedger
}

// arrive lets the calls arrive that are late.
func (l *lender) arrive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range l.late {
		call()
	}
	l.late = nil
}

func (l *lender) current(h ledger.Holder) error {
	if n := l.nodes[h.Node]; n == nil || n.epoch != h.Epoch || !n.up {
		return ledger.ErrFenced
	}
	return nil
}

func (p *lenderPool) write(lease ledger.Lease) ledger.Lease {
	lease.Version++
	p.leases[lease.Node] = lease
	return lease
}

func (l *lender) Lease(ctx context.Context, k ledger.StockKey, h ledger.Holder, demand ledger.Ask) (ledger.Lease, error) {
	return ask(ctx, l, func() (ledger.Lease, error) {
		if err := l.current(h); err != nil {
			return ledger.Lease{}, err
		}
		p := l.pool(k)
		lease := p.leases[h.Node]
		lease.Node = h.Node
		if demand.Used > lease.Held {
			lease.Held = demand.Used
			return p.write(lease), ledger.ErrOverdrawn
		}
		lease.Held += max(0, min(demand.UpTo-lease.Held, p.sums().Free(demand.Total)))
		return p.write(lease), nil
	})
}

func (l *lender) Return(ctx context.Context, k ledger.StockKey, h ledger.Holder, seen ledger.Lease, keep int64) (ledger.Lease, error) {
	return ask(ctx, l, func() (ledger.Lease, error) {
		if err := l.current(h); err != nil {
			return ledger.Lease{}, err
		}
		p := l.pool(k)
		lease := p.leases[h.Node]
		if lease.Version != seen.Version || keep > lease.Held || keep < 0 {
			return ledger.Lease{}, ledger.ErrLeaseChanged
		}
		lease.Held = keep
		return p.write(lease), nil
	})
}

func (l *lender) Leases(ctx context.Context, k ledger.StockKey) (ledger.Pool, []ledger.Lease, error) {
	type whole struct {
		sums   ledger.Pool
		leases []ledger.Lease
	}
	w, err := ask(ctx, l, func() (w whole, err error) {
		p := l.pool(k)
		w.sums = p.sums()
		for _, lease := range p.leases {
			w.leases = append(w.leases, lease)
		}
		return w, nil
	})
	return w.sums, w.leases, err
}

// What follows is the tests' and never fails.

func (l *lender) Join(_ context.Context, p ledger.Process) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[p.Node] == nil {
		l.nodes[p.Node] = &lenderNode{}
	}
	n := l.nodes[p.Node]
	n.epoch++
	n.up = true
	return n.epoch, nil
}

func (l *lender) Lose(_ context.Context, node, _ string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[node].up = false
	return nil
}

func (l *lender) Settle(_ context.Context, k ledger.StockKey, h ledger.Holder, used int64) (ledger.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[h.Node].up {
		return ledger.Lease{}, ledger.ErrHeld
	}
	lease, ok := l.pool(k).leases[h.Node]
	if !ok {
		return lease, ledger.ErrNotFound
	}
	if used > lease.Held {
		return lease, ledger.ErrOverdrawn
	}
	lease.Held = used
	return l.pool(k).write(lease), nil
}

func (l *lender) Refund(_ context.Context, refunds []ledger.Refund) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range refunds {
		l.pool(r.StockKey).refunded[r.Claim] = r.Count
	}
	return nil
}

// held is what nodes hold of a gift.
func (l *lender) held(k ledger.StockKey) map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(map[string]int64)
	for node, lease := range l.pool(k).leases {
		held[node] = lease.Held
	}
	return held
}

// landlord is what the tests need of a ledger that parts stock.
type landlord interface {
	Lender
	Join(ctx context.Context, p ledger.Process) (int64, error)
	Lose(ctx context.Context, node, by string) error
	Settle(ctx context.Context, k ledger.StockKey, h ledger.Holder, used int64) (ledger.Lease, error)
	Refund(ctx context.Context, refunds []ledger.Refund) error
}

// joined makes a process of a node that leases from l.
func joined(t *testing.T, l landlord, node string) *Leases {
	t.Helper()
	epoch, err := l.Join(t.Context(), ledger.Process{Node: node, Home: "disk of " + node})
	if err != nil {
		t.Fatal(err)
	}
	return &Leases{Stock: l, Holder: func() (ledger.Holder, error) { return ledger.Holder{Node: node, Epoch: epoch}, nil }}
}

// running starts what a front does beside answering.
func (f *fixture) running() (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				f.t.Error(fmt.Errorf("run: %w", err))
			}
		})
	}
	f.t.Cleanup(stop)
	return stop
}
