package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"manna/breaker"
	"manna/internal/memcache"
)

const (
	// storeLooks are the looks at a store's servers that are compared, one each lookEvery:
	// five seconds of them.
	storeLooks = 10
	// storeFails is how many exchanges with a server have to fail in that time before it is
	// said. One that nobody needs is still asked once a second.
	storeFails = 3
	// probedWithin is how long a breaker may be half-open before nobody seems to need what
	// is behind it.
	probedWithin = 5 * time.Second
)

// store is one use of the memcached servers, as it was seen last. Safe for concurrent use.
type store struct {
	client *memcache.Client
	name   string
	means  string // what it means that a server of it fails

	mu    sync.Mutex
	looks [][]int64 // the failures of each server until then, the oldest look first
}

// watchStores looks at the stores until ctx ends.
func (n *Node) watchStores(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, s := range n.stores {
			s.look()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *store) look() {
	now := make([]int64, len(s.client.Servers()))
	for i := range now {
		now[i] = s.client.Failures(i)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks = append(s.looks, now); len(s.looks) > storeLooks+1 {
		s.looks = s.looks[1:]
	}
}

// fails reports whether exchanges with a server have failed of late. A breaker opens on
// several in a moment, which a store that is hardly used does not make.
func (s *store) fails(server int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.looks) == 0 {
		return false
	}
	return s.looks[len(s.looks)-1][server]-s.looks[0][server] >= storeFails
}

// note says what is wrong with the store; "" where nothing is.
func (s *store) note() string {
	breakers := s.client.Breakers()
	whole, own := breakers[0].Snapshot(), breakers[1:]
	if len(own) == 0 {
		own = breakers // there is one server
	}
	var away []string
	for i, address := range s.client.Servers() {
		if s.fails(i) || refuses(own[i].Snapshot()) {
			away = append(away, address)
		}
	}
	switch {
	case whole.Mode == breaker.HeldOpen || len(away) == 0 && refuses(whole):
		return fmt.Sprintf("%s: its breaker is %s, mode %s: %s", s.name, whole.State, whole.Mode, s.means)
	case len(away) > 0:
		return fmt.Sprintf("%s: memcached %s is away: %s", s.name, strings.Join(away, ", "), s.means)
	}
	return ""
}

// refuses reports whether a breaker keeps calls away that somebody wants to make.
func refuses(s breaker.Snapshot) bool {
	return s.State == breaker.Open || s.State == breaker.HalfOpen && time.Since(s.Since) < probedWithin
}
