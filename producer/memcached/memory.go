package memcached

import (
	"fmt"
	"math"
	"sync/atomic"

	"manna/fallbacklog"
	"manna/gift"
)

// memory is what this node knows of how much one server remembers.
type memory struct {
	address string
	tag     int // names keys that belong to the server
	// wordKey is on the server as long as it has what this node told it; it dies with
	// that. doubtKey is there while some node has found that its own is not.
	wordKey, doubtKey string

	// failures is the client's count; the server is known to remember everything as long
	// as it is what it was at the last look that found it so.
	failures func() int64
	sureAt   atomic.Int64
	unsure   chan struct{} // somebody would like to be sure
	// owed is the least position of the claims that could not be told; none is above
	// every position. newest is the greatest of those that were told.
	owed, newest atomic.Uint64

	// The next fields are of the goroutine that looks.
	look    uint64 // the last
	seen    uint64 // newest, when it looked last
	through uint64 // everything before this position has been told
}

const none = math.MaxUint64

func newMemory(o *Options, server int, address string) *memory {
	tag := 0
	for o.Client.Home(fmt.Sprintf("{%d}", tag)) != server {
		tag++
	}
	m := &memory{
		address:  address,
		tag:      tag,
		wordKey:  wordKey(o.Prefix, tag, o.Node),
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

// raise says that a claim has been told.
func (m *memory) raise(at fallbacklog.Position) {
	for newest := m.newest.Load(); uint64(at) > newest && !m.newest.CompareAndSwap(newest, uint64(at)); newest = m.newest.Load() {
	}
}

// advance finds out through which position everything has been told: what was newest at
// the look before, if no claim that was being recorded then still is.
func (m *memory) advance(take func() (look, oldest uint64)) {
	// What is below newest now was held before this look, or no longer is.
	newest := m.newest.Load()
	look, oldest := take()
	if oldest >= m.look {
		m.through = max(m.through, min(m.seen, m.owed.Load()))
	}
	m.look, m.seen = look, newest
}
