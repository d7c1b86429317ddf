package memcache

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"manna/breaker"
)

// server is one memcached with its connections.
type server struct {
	address string
	hash    uint64
	client  *memcache.Client
	breaker *breaker.Breaker // nil where the store has no other server
	room    chan struct{}    // a place for each call under way
	failed  atomic.Int64     // exchanges
	wait    time.Duration
}

func newServer(address string, o *Options) *server {
	client := memcache.NewFromSelector(&home{address})
	client.Timeout = o.Timeout
	client.MaxIdleConns = o.Parallel
	return &server{address: address, hash: hash(address), client: client, room: make(chan struct{}, o.Parallel), wait: o.Timeout}
}

// home is the selector of a client that has one server. The name is resolved
// when it is dialled, so that a server may move.
type home struct{ address string }

func (h *home) PickServer(string) (net.Addr, error) { return h, nil }
func (h *home) Each(f func(net.Addr) error) error   { return f(h) }
func (h *home) Network() string                     { return "tcp" }
func (h *home) String() string                      { return h.address }

// Home is which of Options.Servers a key belongs to.
func (c *Client) Home(key string) int {
	if len(c.servers) == 1 {
		return 0
	}
	if _, tail, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(tail, "}"); ok {
			key = tag
		}
	}
	of := hash(key)
	best, most := -1, uint64(0)
	for i, s := range c.servers {
		if h := mix(of ^ s.hash); best < 0 || h > most || h == most && s.address < c.servers[best].address {
			best, most = i, h
		}
	}
	return best
}

// hash is FNV-1a, the same on every machine.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads every bit over all others (splitmix64's last step).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// do makes one call to a key's server, past the breakers, and says what its error
// means.
func (c *Client) do(ctx context.Context, key string, call func(*memcache.Client) error) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%s: a key of %d bytes: it has 1 to %d", c.name, len(key), maxKey)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := c.servers[c.Home(key)]
	store, err := c.breaker.Allow()
	if err != nil {
		return down(s.address, err)
	}
	result := breaker.Failure
	defer func() { store.Done(result) }()
	if s.breaker != nil {
		own, err := s.breaker.Allow()
		if err != nil {
			result = breaker.Abandoned
			return down(s.address, err)
		}
		defer func() { own.Done(result) }()
	}
	if result, err = s.enter(ctx); err != nil {
		return err
	}
	defer func() { <-s.room }()
	result = breaker.Failure // should the call panic
	result, err = judge(s.address, call(s.client))
	if result == breaker.Failure {
		// The connections that lie idle have most likely died with this one; each
		// would fail a call of its own long after the server is back. Whoever gets a new
		// one can know by then that an exchange has failed.
		s.failed.Add(1)
		_ = s.client.Close()
	}
	return err
}

// enter waits for room. Where there is none in time the server is too slow for
// what is asked of it, which counts against it.
func (s *server) enter(ctx context.Context) (breaker.Result, error) {
	select {
	case s.room <- struct{}{}:
		return breaker.Success, nil
	default:
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.room <- struct{}{}:
		return breaker.Success, nil
	case <-timer.C:
		return breaker.Failure, down(s.address, fmt.Errorf("%d calls are under way and none ended in %v", cap(s.room), s.wait))
	case <-ctx.Done():
		return breaker.Abandoned, ctx.Err()
	}
}
