package memcached

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache"
)

const (
	// lookEvery is how often a server is asked whether it still knows what it was told.
	lookEvery = time.Second
	// lookAgain is how long it is left alone where claims wait for it to be sure.
	lookAgain = 50 * time.Millisecond
	// doubtFor is how long a node's word that a server has forgotten holds, unless it is
	// given again: until all other nodes have looked, and given theirs.
	doubtFor = 3 * time.Second
	// tellers is how many claims are told to one server at a time.
	tellers = 8
)

// memory is what this node knows of how much one server remembers.
type memory struct {
	address string
	// toldKey is on the server as long as it has what this node told it; it dies with
	// that. doubtKey is there where some node has found that it is not.
	toldKey, doubtKey string

	// failures is the client's count; the server is known to remember everything as long
	// as it is what it was at the last look that found it so.
	failures func() int64
	sureAt   atomic.Int64
	unsure   chan struct{} // somebody would like to be sure
	// owed is the least position of the claims that could not be told; none is above
	// every position.
	owed atomic.Uint64
}

const none = math.MaxUint64

func newMemory(o *Options, server int, address string) *memory {
	tag := 0 // names keys that belong to the server
	for o.Client.Home(fmt.Sprintf("{%d}", tag)) != server {
		tag++
	}
	m := &memory{
		address:  address,
		toldKey:  fmt.Sprintf("%st:{%d}:%s", o.Prefix, tag, o.Node),
		doubtKey: fmt.Sprintf("%sd:{%d}", o.Prefix, tag),
		failures: func() int64 { return o.Client.Failures(server) },
		unsure:   make(chan struct{}, 1),
	}
	m.sureAt.Store(-1)
	m.owed.Store(none)
	return m
}

// memoryOf is that of a claim's server.
func (g *Guard) memoryOf(id gift.ClaimID) *memory {
	if len(g.memories) == 1 {
		return g.memories[0]
	}
	return g.memories[g.opts.Client.Home(g.key(id))]
}

// sure reports whether the server has forgotten nothing. Where it may have, that is
// looked into soon.
func (m *memory) sure() bool {
	if m.sureAt.Load() == m.failures() {
		return true
	}
	select {
	case m.unsure <- struct{}{}:
	default:
	}
	return false
}

// owe says that a claim could not be told.
func (m *memory) owe(at fallbacklog.Position) {
	for least := m.owed.Load(); uint64(at) < least && !m.owed.CompareAndSwap(least, uint64(at)); least = m.owed.Load() {
	}
}

// Remind implements producer.SharedGuard.
func (g *Guard) Remind(ctx context.Context, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	var work sync.WaitGroup
	for i := range g.memories {
		work.Go(func() { g.watch(ctx, i, own) })
	}
	work.Wait()
}

// watch looks at one server again and again.
func (g *Guard) watch(ctx context.Context, server int, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	m := g.memories[server]
	for ctx.Err() == nil {
		g.look(ctx, server, own)
		select {
		case <-m.unsure:
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
			}
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// look finds out whether a server has forgotten anything, and reminds it. Where a call
// fails, the next look does that.
func (g *Guard) look(ctx context.Context, server int, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	m := g.memories[server]
	failures, owed := m.failures(), m.owed.Swap(none)
	told, err := g.has(ctx, m.toldKey)
	if err == nil && !told {
		m.sureAt.Store(-1)
		owed = 0
	}
	if err == nil && owed != none {
		err = g.remind(ctx, server, fallbacklog.Position(owed), own)
	}
	if err == nil && !told {
		err = g.opts.Client.Set(ctx, m.toldKey, []byte("t"), 0)
	}
	if err != nil {
		if owed != none {
			m.owe(fallbacklog.Position(owed))
		}
		return
	}
	doubted, err := g.has(ctx, m.doubtKey)
	switch {
	case doubted:
		m.sureAt.Store(-1)
	case err == nil:
		m.sureAt.Store(failures)
	}
}

// remind tells a server this node's claims from a position on. All nodes are unsure of
// it meanwhile, and for a moment after.
func (g *Guard) remind(ctx context.Context, server int, from fallbacklog.Position, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) error {
	type claim struct {
		id gift.ClaimID
		at fallbacklog.Position
	}
	m := g.memories[server]
	if err := g.doubt(ctx, m); err != nil {
		return err
	}
	began, claims := time.Now(), 0
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	untold := make(chan claim)
	var telling sync.WaitGroup
	for range tellers {
		telling.Go(func() {
			for c := range untold {
				if err := g.tell(work, c.id, c.at); err != nil {
					stop(err)
				}
			}
		})
	}
	doubted := time.Now()
	for id, at := range own {
		if at < from || g.opts.Client.Home(g.key(id)) != server {
			continue
		}
		if now := time.Now(); now.Sub(doubted) > doubtFor/4 {
			if err := g.doubt(work, m); err != nil {
				stop(err)
			}
			doubted = now
		}
		if work.Err() != nil {
			break
		}
		untold <- claim{id, at}
		claims++
	}
	close(untold)
	telling.Wait()
	if work.Err() != nil {
		return context.Cause(work)
	}
	if claims > 0 {
		g.opts.Logger.Warn("the guard had forgotten claims of this node; it has been told them again", "server", m.address, "claims", claims, "took", time.Since(began))
	}
	return nil
}

// doubt tells all nodes not to rely on a server.
func (g *Guard) doubt(ctx context.Context, m *memory) error {
	return g.opts.Client.Set(ctx, m.doubtKey, []byte("d"), doubtFor)
}

// has reports whether a key is there.
func (g *Guard) has(ctx context.Context, key string) (bool, error) {
	_, err := g.opts.Client.Get(ctx, key)
	if errors.Is(err, memcache.ErrMiss) {
		return false, nil
	}
	return err == nil, err
}
