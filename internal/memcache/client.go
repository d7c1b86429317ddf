package memcache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"manna/breaker"
)

// Options configure a Client. Name and Servers are required.
type Options struct {
	// Name is the store's, and its breaker's: "guard".
	Name    string
	Servers []string // host:port
	// Timeout bounds each of: waiting for room, dialling, one exchange. Default
	// 50 ms.
	Timeout time.Duration
	// Parallel is how many calls a server gets at a time, and how many idle
	// connections are kept to it. Default 64.
	Parallel int
	// OpenFor is how long a sick server is left alone before it is tried again.
	// Default 1 s.
	OpenFor time.Duration
	// OnChange is told when a breaker changes; may be nil.
	OnChange func(breaker.Snapshot)
}

// Client is safe for concurrent use. It owns no goroutines.
type Client struct {
	name    string
	breaker *breaker.Breaker
	servers []*server
}

// Item is what Get found.
type Item struct {
	Value []byte
	found *memcache.Item
}

// New checks the options. It connects to nothing: a server that is away is no
// reason not to start.
func New(o Options) (*Client, error) {
	if len(o.Servers) == 0 {
		return nil, fmt.Errorf("%s: no memcached server is named: write servers: [host:11211]", o.Name)
	}
	if o.Timeout <= 0 {
		o.Timeout = 50 * time.Millisecond
	}
	if o.Parallel <= 0 {
		o.Parallel = 64
	}
	if o.OpenFor <= 0 {
		o.OpenFor = time.Second
	}
	c := &Client{name: o.Name}
	var err error
	ratio := alone
	if len(o.Servers) > 1 {
		ratio = together
	}
	if c.breaker, err = newBreaker(o.Name, &o, ratio); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, address := range o.Servers {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("%s: %q is no address of a memcached server: write host:port, like 127.0.0.1:11211", o.Name, address)
		}
		if seen[address] {
			return nil, fmt.Errorf("%s: server %s is named twice: take one of them out of %s: {servers}", o.Name, address, o.Name)
		}
		seen[address] = true
		s := newServer(address, &o)
		if len(o.Servers) > 1 {
			if s.breaker, err = newBreaker(o.Name+"/"+breakerName(address), &o, alone); err != nil {
				return nil, err
			}
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

const (
	// minCalls is how few results a breaker opens on.
	minCalls = 4
	// alone is the share of failures at which a server is sick, together the share
	// at which a store of several is: one of them is taken out alone.
	alone    = 0.5
	together = 0.9
)

func newBreaker(name string, o *Options, ratio float64) (*breaker.Breaker, error) {
	call := 3 * o.Timeout
	settings := breaker.Settings{Window: max(4*call, 10*time.Millisecond), FailureRatio: ratio, MinCalls: minCalls, OpenFor: o.OpenFor, Timeout: call}
	if o.OnChange == nil {
		return breaker.New(name, settings)
	}
	return breaker.New(name, settings, breaker.OnChange(o.OnChange))
}

// breakerName makes a name that a breaker may have of an address.
func breakerName(address string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		case r == '[' || r == ']':
			return -1
		}
		return '-'
	}, address)
}

// Breakers are the store's and, where there are several servers, theirs.
func (c *Client) Breakers() []*breaker.Breaker {
	all := []*breaker.Breaker{c.breaker}
	for _, s := range c.servers {
		if s.breaker != nil {
			all = append(all, s.breaker)
		}
	}
	return all
}

// Servers are the addresses that keys belong to.
func (c *Client) Servers() []string {
	all := make([]string, len(c.servers))
	for i, s := range c.servers {
		all[i] = s.address
	}
	return all
}

// Failures is how many exchanges with a server have failed. As long as it does not
// change the server is most likely the same process, for a connection that outlives
// its server fails when it is used next.
func (c *Client) Failures(server int) int64 { return c.servers[server].failed.Load() }

// Close closes the idle connections. Calls under way end by themselves.
func (c *Client) Close() error {
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}

// Get reads a key; ErrMiss where it is not there.
func (c *Client) Get(ctx context.Context, key string) (item Item, err error) {
	err = c.do(ctx, key, func(m *memcache.Client) error {
		found, err := m.Get(key)
		if err == nil {
			item = Item{Value: found.Value, found: found}
		}
		return err
	})
	return item, err
}

// Add stores a key that is not there yet; ErrExists where it is.
func (c *Client) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return c.do(ctx, key, func(m *memcache.Client) error {
		return m.Add(&memcache.Item{Key: key, Value: value, Expiration: expiry(ttl)})
	})
}

// Set stores a key whatever is there.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return c.do(ctx, key, func(m *memcache.Client) error {
		return m.Set(&memcache.Item{Key: key, Value: value, Expiration: expiry(ttl)})
	})
}

// Swap replaces an item that nobody has changed since Get; ErrConflict where
// somebody has, ErrMiss where it is gone. A ttl below 0 removes it.
func (c *Client) Swap(ctx context.Context, item Item, value []byte, ttl time.Duration) error {
	next := *item.found
	next.Value, next.Expiration = value, expiry(ttl)
	return c.do(ctx, next.Key, func(m *memcache.Client) error { return m.CompareAndSwap(&next) })
}

// relative bounds what memcached takes as a time to live.
const relative = 30*24*time.Hour - time.Second

// expiry is a time to live as memcached wants it. Its clock ticks once a second, and
// what has n seconds to live goes at the nth tick: one more makes it at least ttl.
func expiry(ttl time.Duration) int32 {
	switch seconds := (ttl+time.Second-1)/time.Second + 1; {
	case ttl < 0:
		return -1
	case ttl == 0:
		return 0 // never
	case ttl < relative:
		return int32(seconds)
	default:
		return int32(min(time.Now().Unix()+int64(seconds), math.MaxInt32))
	}
}
