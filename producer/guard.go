package producer

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"

	"manna/fallbacklog"
	"manna/gift"
)

// Guard knows which claims have been made or are being made. It is what keeps two
// requests for one entitlement apart; it need not survive a crash, for the log
// does. An implementation is safe for concurrent use and passes guardtest.
type Guard interface {
	// Reserve asks for the right to append a claim. It does not wait for another
	// request. Where siblings is not nil, it lists the user's claims in all stages
	// of the scene, id among them, in a fixed order; at most limit of them may be
	// reserved or recorded, else the error is a *gift.Error with LimitReached.
	// Any other error means that the guard is down: the claim is the caller's as
	// if it were held, to append without the guard's protection and then to Commit
	// or Release.
	Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error)
	// Commit says that a claim is recorded at a position of this node's log.
	Commit(id gift.ClaimID, at fallbacklog.Position)
	// Release gives a reservation up: a repeat may reserve again.
	Release(id gift.ClaimID)
	// Find tells where a claim is recorded.
	Find(ctx context.Context, id gift.ClaimID) (at Recorded, ok bool, err error)
}

// SharedGuard is the guard that several nodes share, and that may forget what it was
// told. It passes guardtest with Engine.Shared.
type SharedGuard interface {
	Guard
	// Remind tells the guard this node's recorded claims again, as own gives them each
	// time, wherever they have been forgotten or could not be told, until ctx ends.
	// Until then, and while it has not begun, the guard is Unsure. It runs once.
	Remind(ctx context.Context, own iter.Seq2[gift.ClaimID, fallbacklog.Position])
}

// Reservation is a guard's answer. Exactly one of Held, Recorded and Busy is set.
type Reservation struct {
	// Held: the claim is the caller's to append, and then to Commit or Release.
	Held bool
	// Unsure comes with Held: another node may have recorded the claim, and the guard
	// have forgotten it.
	Unsure bool
	// Recorded is where the claim is recorded already.
	Recorded Recorded
	// Busy is closed when it is worth asking again: the request that is appending
	// the claim now, here or on another node, has ended well or badly, or may have.
	Busy <-chan struct{}
}

// Recorded is where a claim is: in which node's log, "" being this one's, and at
// which position of it.
type Recorded struct {
	Node string
	At   fallbacklog.Position
}

// guardShards is one for each value of the byte that picks them.
const guardShards = 256

// memoryGuard is the guard of one process: every recorded claim of the log, and
// the reservations.
type memoryGuard struct {
	shards [guardShards]guardShard
	// users serialise the claims that count against the same limit; taken before
	// a shard's lock.
	users [guardShards]sync.Mutex
}

type guardShard struct {
	mu       sync.Mutex
	recorded map[gift.ClaimID]fallbacklog.Position
	// reserved holds a channel once somebody waits, nil before.
	reserved map[gift.ClaimID]chan struct{}
}

func newMemoryGuard() *memoryGuard {
	g := &memoryGuard{}
	for i := range g.shards {
		g.shards[i].recorded = make(map[gift.ClaimID]fallbacklog.Position)
		g.shards[i].reserved = make(map[gift.ClaimID]chan struct{})
	}
	return g
}

// shard picks by the last byte of the id. Indexes are sorted by the first ones,
// so a rebuild from several of them at once spreads over all locks.
func (g *memoryGuard) shard(id gift.ClaimID) *guardShard { return &g.shards[id[15]] }

// Reserve implements Guard.
func (g *memoryGuard) Reserve(_ context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error) {
	if siblings == nil {
		return g.shard(id).reserve(id, true), nil
	}
	lock := &g.users[siblings[0][15]]
	lock.Lock()
	defer lock.Unlock()
	if r := g.shard(id).reserve(id, false); !r.Held {
		return r, nil
	}
	taken := 0
	for _, s := range siblings {
		if s != id && g.shard(s).has(s) {
			taken++
		}
	}
	if taken >= limit {
		return Reservation{}, &gift.Error{Code: gift.LimitReached, Detail: fmt.Sprintf("this user has %d of the %d claims that one user may make in this scene", taken, limit)}
	}
	return g.shard(id).reserve(id, true), nil
}

// reserve looks a claim up; with take, one that is free is reserved.
func (s *guardShard) reserve(id gift.ClaimID, take bool) Reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.recorded[id]; ok {
		return Reservation{Recorded: Recorded{At: at}}
	}
	if wait, ok := s.reserved[id]; ok {
		if wait == nil {
			wait = make(chan struct{})
			s.reserved[id] = wait
		}
		return Reservation{Busy: wait}
	}
	if take {
		s.reserved[id] = nil
	}
	return Reservation{Held: true}
}

func (s *guardShard) has(id gift.ClaimID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, recorded := s.recorded[id]
	_, reserved := s.reserved[id]
	return recorded || reserved
}

// Commit implements Guard.
func (g *memoryGuard) Commit(id gift.ClaimID, at fallbacklog.Position) {
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorded[id] = at
	s.free(id)
}

// Release implements Guard.
func (g *memoryGuard) Release(id gift.ClaimID) {
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(id)
}

func (s *guardShard) free(id gift.ClaimID) {
	if wait := s.reserved[id]; wait != nil {
		close(wait)
	}
	delete(s.reserved, id)
}

// Find implements Guard.
func (g *memoryGuard) Find(_ context.Context, id gift.ClaimID) (Recorded, bool, error) {
	at, ok := g.find(id)
	return Recorded{At: at}, ok, nil
}

func (g *memoryGuard) find(id gift.ClaimID) (fallbacklog.Position, bool) {
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.recorded[id]
	return at, ok
}

// restore takes in a claim found in the log; first is false where it was known.
// Of several records of one claim the oldest counts.
func (g *memoryGuard) restore(id gift.ClaimID, at fallbacklog.Position) (first bool) {
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	had, known := s.recorded[id]
	if !known || at < had {
		s.recorded[id] = at
	}
	return !known
}

// all gives the recorded claims, those of one shard after the other, as they are when
// its turn comes.
func (g *memoryGuard) all() iter.Seq2[gift.ClaimID, fallbacklog.Position] {
	return func(yield func(gift.ClaimID, fallbacklog.Position) bool) {
		for i := range g.shards {
			s := &g.shards[i]
			s.mu.Lock()
			recorded := maps.Clone(s.recorded)
			s.mu.Unlock()
			for id, at := range recorded {
				if !yield(id, at) {
					return
				}
			}
		}
	}
}

// len is the number of recorded claims.
func (g *memoryGuard) len() int {
	n := 0
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		n += len(s.recorded)
		s.mu.Unlock()
	}
	return n
}
