package memcached

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache"
	"manna/producer"
)

// Options configure a Guard. Client and Node are required.
type Options struct {
	Client *memcache.Client
	// Node is this node's name: that of its log, and of no other node.
	Node string
	// Prefix begins every key; default "manna:". Clusters that share servers need
	// one each.
	Prefix string
	// Lease is how long a reservation lives, at least, whose front died and does not
	// come back; default 5 min. Until then nobody can know whether that front's log has
	// the claim.
	Lease time.Duration
	// Keep is how long a recorded claim is remembered; default 48 h. It has to be
	// longer than a campaign is open.
	Keep   time.Duration
	Logger *slog.Logger // default: none
}

const (
	// askAgain is when one who met another node's reservation should ask again. It
	// is a few commits long.
	askAgain = 20 * time.Millisecond
	// slotLease is how long a slot lives whose claim was not recorded.
	slotLease = 5 * time.Second
	// tries bounds how often a key that changes under our hands is looked at.
	tries = 8
)

// Guard implements producer.SharedGuard. It is safe for concurrent use, and owns no
// goroutines but those of Remind.
type Guard struct {
	opts        Options
	incarnation string    // of this process; begins its tokens
	ours        string    // begins the value of every reservation of this process
	memories    []*memory // of the client's servers

	mu     sync.Mutex // guards what follows
	held   map[gift.ClaimID]hold
	tokens uint64 // given
	looks  uint64 // that Remind has taken
}

// hold is a claim that a request of this process holds, or asks for just now.
type hold struct {
	token  uint64
	before uint64        // the look that it comes after
	slot   string        // the key of the slot that it took; "" where none is needed
	ended  chan struct{} // closed when it is no longer held; nil until somebody waits for that
}

// New makes a guard. It connects to nothing.
func New(o Options) (*Guard, error) {
	if o.Client == nil {
		return nil, errors.New("a memcached guard needs a client")
	}
	if err := gift.CheckName(o.Node); err != nil {
		return nil, fmt.Errorf("a memcached guard needs its node's name: it %w", err)
	}
	if o.Prefix == "" {
		o.Prefix = "manna:"
	}
	if o.Lease <= 0 {
		o.Lease = 5 * time.Minute
	}
	if o.Keep <= 0 {
		o.Keep = 48 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Guard{opts: o, incarnation: rand.Text()[:13], held: make(map[gift.ClaimID]hold)}
	g.ours = "r " + o.Node + " " + g.incarnation + tokenMark
	for i, address := range o.Client.Servers() {
		g.memories = append(g.memories, newMemory(&o, i, address))
	}
	return g, nil
}

// Reserve implements producer.Guard.
func (g *Guard) Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (producer.Reservation, error) {
	mine, busy := g.hold(id)
	if busy != nil {
		return producer.Reservation{Busy: busy}, nil
	}
	key, value := g.key(id), g.reserved(mine)
	r, err := g.take(ctx, id, key, value)
	r.Unsure = r.Held && !g.memoryOf(id).sure()
	if err == nil && r.Held && siblings != nil {
		if err = g.takeSlot(ctx, id, siblings[0], limit); err != nil {
			r = producer.Reservation{}
			g.free(ctx, key, value)
		}
	}
	// After an error that is no refusal the claim goes on, and is held until it ends.
	if _, refused := errors.AsType[*gift.Error](err); !r.Held && (err == nil || refused) {
		g.drop(id)
	}
	return r, err
}

// hold has a claim held under a token that no other request has. Where it is held
// already it gives what is closed when that ends.
func (g *Guard) hold(id gift.ClaimID) (token uint64, busy <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if other, ok := g.held[id]; ok {
		if other.ended == nil {
			other.ended = make(chan struct{})
			g.held[id] = other
		}
		return 0, other.ended
	}
	g.tokens++
	g.held[id] = hold{token: g.tokens, before: g.looks}
	return g.tokens, nil
}

// take asks for a claim's key until it has it or knows who does. A server that is slow
// once is asked once more: a claim that goes on without the guard may be a second one.
func (g *Guard) take(ctx context.Context, id gift.ClaimID, key string, value []byte) (producer.Reservation, error) {
	r, err := g.tryTake(ctx, id, key, value)
	if errors.Is(err, memcache.ErrDown) && ctx.Err() == nil {
		r, err = g.tryTake(ctx, id, key, value)
	}
	return r, err
}

func (g *Guard) tryTake(ctx context.Context, id gift.ClaimID, key string, value []byte) (producer.Reservation, error) {
	for range tries {
		added := g.opts.Client.Add(ctx, key, value, g.opts.Lease)
		if added == nil {
			return producer.Reservation{Held: true}, nil
		}
		if !unclear(added) {
			return producer.Reservation{}, added
		}
		// It is another's, or the answer was lost and it may be ours.
		item, err := g.opts.Client.Get(ctx, key)
		switch {
		case err == memcache.ErrMiss && added == memcache.ErrExists:
			continue // it has just ended
		case err == memcache.ErrMiss:
			return producer.Reservation{}, added
		case err != nil:
			return producer.Reservation{}, err
		case bytes.Equal(item.Value, value):
			return producer.Reservation{Held: true}, nil
		}
		found, err := parse(string(item.Value))
		switch {
		case err != nil:
			return producer.Reservation{}, fmt.Errorf("key %s: %w", key, err)
		case found.recorded:
			return producer.Reservation{Recorded: g.place(found)}, nil
		case found.node != g.opts.Node:
			if gone, err := g.gone(ctx, id, found); err != nil {
				return producer.Reservation{}, err
			} else if !gone {
				return producer.Reservation{Busy: after(askAgain)}, nil
			}
		}
		// No request of this process holds it, or it would have been busy; nor does one of
		// another process that lives.
		switch err := g.opts.Client.Swap(ctx, item, value, g.opts.Lease); err {
		case nil:
			return producer.Reservation{Held: true}, nil
		case memcache.ErrMiss, memcache.ErrConflict, memcache.ErrExists:
			continue
		default:
			return producer.Reservation{}, err
		}
	}
	return producer.Reservation{Busy: after(askAgain)}, nil
}

// unclear tells an Add whose key has to be looked at: it is taken, or the answer
// was lost, or the server is full and may know the claim all the same.
func unclear(err error) bool {
	return err == memcache.ErrExists || errors.Is(err, memcache.ErrDown) || errors.Is(err, memcache.ErrFull)
}

// takeSlot takes one of the limit's slots, or says that all are taken.
func (g *Guard) takeSlot(ctx context.Context, id, first gift.ClaimID, limit int) error {
	value := taken(id)
	for n := range limit {
		key := fmt.Sprintf("%ss:{%x}:%d", g.opts.Prefix, first[:], n)
		err := g.opts.Client.Add(ctx, key, value, slotLease)
		if err != nil && unclear(err) {
			item, lookErr := g.opts.Client.Get(ctx, key)
			switch {
			case lookErr == nil && bytes.Equal(item.Value, value):
				err = nil // ours, of an answer that was lost or a process that died
			case lookErr == nil:
				continue
			case err == memcache.ErrExists:
				err = lookErr
			}
		}
		if err == nil {
			g.mu.Lock()
			mine := g.held[id]
			mine.slot = key
			g.held[id] = mine
			g.mu.Unlock()
			return nil
		}
		if err != memcache.ErrMiss { // a slot that ended as we looked is free at the next try
			return err
		}
	}
	return &gift.Error{Code: gift.LimitReached, Detail: fmt.Sprintf("one user may make %d claims in this scene, and this user has", limit)}
}

// Commit implements producer.Guard. What cannot be told now Remind tells later. The
// client's own times bound it.
func (g *Guard) Commit(id gift.ClaimID, at fallbacklog.Position) {
	ctx := context.Background()
	defer g.drop(id)
	if err := g.tell(ctx, id, at); err != nil {
		g.memoryOf(id).owe(at)
	} else {
		g.memoryOf(id).raise(at)
	}
	if mine, _ := g.holder(id); mine.slot != "" {
		_ = g.opts.Client.Set(ctx, mine.slot, taken(id), g.opts.Keep)
	}
}

// tell stores where a claim of this node is recorded.
func (g *Guard) tell(ctx context.Context, id gift.ClaimID, at fallbacklog.Position) error {
	return g.opts.Client.Set(ctx, g.key(id), recorded(g.opts.Node, at), g.opts.Keep)
}

// Release implements producer.Guard. What cannot be taken back ends with its lease. The
// client's own times bound it.
func (g *Guard) Release(id gift.ClaimID) {
	mine, ok := g.holder(id)
	if !ok {
		return
	}
	ctx := context.Background()
	defer g.drop(id)
	if mine.slot != "" {
		g.free(ctx, mine.slot, taken(id))
	}
	g.free(ctx, g.key(id), g.reserved(mine.token))
}

// Find implements producer.Guard.
func (g *Guard) Find(ctx context.Context, id gift.ClaimID) (producer.Recorded, bool, error) {
	key := g.key(id)
	item, err := g.opts.Client.Get(ctx, key)
	if err == memcache.ErrMiss {
		return producer.Recorded{}, false, nil
	}
	if err != nil {
		return producer.Recorded{}, false, err
	}
	found, err := parse(string(item.Value))
	if err != nil {
		return producer.Recorded{}, false, fmt.Errorf("key %s: %w", key, err)
	}
	if !found.recorded {
		return producer.Recorded{}, false, nil
	}
	return g.place(found), true, nil
}

// free removes a key that still has the value which this guard gave it.
func (g *Guard) free(ctx context.Context, key string, value []byte) {
	item, err := g.opts.Client.Get(ctx, key)
	if err == nil && bytes.Equal(item.Value, value) {
		_ = g.opts.Client.Swap(ctx, item, nil, -1)
	}
}

// takeLook counts a look. It gives its number, and that of the last look before the oldest
// hold; its own where nothing is held.
func (g *Guard) takeLook() (look, oldest uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks++
	oldest = g.looks
	for _, h := range g.held {
		oldest = min(oldest, h.before)
	}
	return g.looks, oldest
}

func (g *Guard) holder(id gift.ClaimID) (h hold, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, ok = g.held[id]
	return h, ok
}

// drop ends a hold, where there is one, and wakes who waits for that.
func (g *Guard) drop(id gift.ClaimID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ended := g.held[id].ended; ended != nil {
		close(ended)
	}
	delete(g.held, id)
}

// place is where a found claim is, as seen from this node.
func (g *Guard) place(e entry) producer.Recorded {
	if e.node == g.opts.Node {
		e.node = ""
	}
	return producer.Recorded{Node: e.node, At: e.at}
}

// after gives a channel that is closed after a while.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}
