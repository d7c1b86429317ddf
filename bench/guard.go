package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"manna/fallbacklog"
	"manna/gift"
	stores "manna/internal/memcache"
	"manna/producer/memcached"
)

const (
	// guardTurn is how many claims are made before it is the other's turn, and so how
	// many the guard holds at a time: as a front does whose commits take 10 ms.
	guardTurn = 1_000
	// guardParallel is how many calls are under way at a time, and how many
	// connections both keep.
	guardParallel = 64
	// guardKeep is how long a claim lives on the server should this bench be killed:
	// else it is removed at the end of its turn.
	guardKeep = time.Minute
	// guardTimeout is long: this is about what calls cost on a server that is well.
	guardTimeout = 5 * time.Second
)

// guard reserves and commits claims with the guard and, in turns with it, stores as
// many keys with values of the same lengths by the calls that the guard is made of.
func guard(ctx context.Context, o *options) (*result, error) {
	e, err := readEngines(o.engines)
	if err != nil {
		return nil, err
	}
	w, err := newGuardWorld(e)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var reserve, add, both, bareBoth []float64
	for round := range o.rounds + 1 {
		length := o.round
		if round == 0 {
			length = warmUp
		}
		spent, err := w.round(ctx, length)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			continue
		}
		reserve = append(reserve, spent.rate(spent.reserve))
		add = append(add, spent.rate(spent.add))
		both = append(both, spent.rate(spent.reserve+spent.commit))
		bareBoth = append(bareBoth, spent.rate(spent.add+spent.set))
		last := len(add) - 1
		fmt.Fprintf(o.out, "round %d  Reserve %8.0f/s, Add %8.0f/s; with Commit %8.0f/s, with Set %8.0f/s\n", round, reserve[last], add[last], both[last], bareBoth[last])
	}
	ours, theirs := median(reserve), median(add)
	whole, bareWhole := median(both), median(bareBoth)
	r := &result{Value: ours, Unit: "Reserve/s", Against: []peer{{"bare gomemcache Add", theirs, ours / theirs}, {"Add and Set; ours with Commit", bareWhole, whole / bareWhole}}}
	r.add("Reserve and Commit", whole, "claims/s")
	r.add("lowest round", slices.Min(reserve), "Reserve/s")
	r.add("highest round", slices.Max(reserve), "Reserve/s")
	return r, nil
}

// guardWorld has the guard and a bare client on the same servers.
type guardWorld struct {
	name   string
	store  *stores.Client
	guard  *memcached.Guard
	bare   *memcache.Client
	claims uint64 // made so far
	turns  uint64 // taken so far
}

func newGuardWorld(e *engines) (*guardWorld, error) {
	store, err := stores.New(stores.Options{Name: "guard", Servers: e.Guard.Servers, Parallel: guardParallel, Timeout: guardTimeout})
	if err != nil {
		return nil, err
	}
	w := &guardWorld{name: e.name, store: store, bare: memcache.New(e.Guard.Servers...)}
	w.bare.MaxIdleConns, w.bare.Timeout = guardParallel, guardTimeout
	w.guard, err = memcached.New(memcached.Options{Client: store, Node: "bench", Prefix: e.name + ":", Lease: guardKeep, Keep: guardKeep})
	return w, err
}

func (w *guardWorld) close() {
	w.store.Close()
	w.bare.Close()
}

// spent is what the calls of a round took.
type spent struct {
	claims                    int
	reserve, commit, add, set time.Duration
}

func (s *spent) rate(d time.Duration) float64 { return float64(s.claims) / d.Seconds() }

// round takes turns for about d of each.
func (w *guardWorld) round(ctx context.Context, d time.Duration) (sum spent, err error) {
	for sum.reserve+sum.commit < d {
		if err := w.turn(ctx, &sum); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// turn makes guardTurn claims in both ways, and removes them.
func (w *guardWorld) turn(ctx context.Context, sum *spent) error {
	ids := make([]gift.ClaimID, guardTurn)
	for i := range ids {
		w.claims++
		ids[i] = gift.NewCampaignID(w.name).ClaimID("rain", fmt.Sprint("u-", w.claims), "")
	}
	ours := func(i int) string { return w.name + ":g:" + hex.EncodeToString(ids[i][:]) }
	bare := func(i int) string { return w.name + ":b:" + hex.EncodeToString(ids[i][:]) }
	// As long as the guard's own values.
	reserved, recorded := []byte("r bench "+rand.Text()[:13]+".zzzz"), []byte("c bench 4294967296")
	expires := int32(guardKeep.Seconds())
	steps := []struct {
		took *time.Duration
		call func(i int) error
	}{
		{&sum.reserve, func(i int) error {
			r, err := w.guard.Reserve(ctx, ids[i], nil, 0)
			if err == nil && !r.Held {
				err = fmt.Errorf("a claim that nobody made is %+v", r)
			}
			return err
		}},
		{&sum.add, func(i int) error {
			return w.bare.Add(&memcache.Item{Key: bare(i), Value: reserved, Expiration: expires})
		}},
		{&sum.commit, func(i int) error {
			w.guard.Commit(ids[i], fallbacklog.Position(1<<32))
			return nil
		}},
		{&sum.set, func(i int) error {
			return w.bare.Set(&memcache.Item{Key: bare(i), Value: recorded, Expiration: expires})
		}},
		{new(time.Duration), func(i int) error { return w.sameLengths(ours(i), len(recorded)) }},
		{new(time.Duration), func(i int) error { return w.bare.Delete(bare(i)) }},
	}
	// Who comes after the other finds the servers awake.
	if w.turns++; w.turns%2 == 0 {
		steps[0], steps[1], steps[2], steps[3] = steps[1], steps[0], steps[3], steps[2]
	}
	for _, s := range steps {
		began := time.Now()
		if err := forAll(ctx, guardTurn, guardParallel, s.call); err != nil {
			return err
		}
		*s.took += time.Since(began)
	}
	sum.claims += guardTurn
	return nil
}

// sameLengths sees that the guard stored what the bare client did, and removes it.
func (w *guardWorld) sameLengths(key string, want int) error {
	item, err := w.bare.Get(key)
	if err != nil {
		return fmt.Errorf("the guard has committed claim %s: %w", key, err)
	}
	if len(item.Value) != want || !strings.HasPrefix(string(item.Value), "c ") {
		return fmt.Errorf("the guard stores %q: the two no longer do the same", item.Value)
	}
	return w.bare.Delete(key)
}

// forAll calls do for each number below n, so many at a time, and gives the first
// error.
func forAll(ctx context.Context, n, parallel int, do func(int) error) error {
	var running sync.WaitGroup
	var next atomic.Int64
	failed := make(chan error, parallel)
	for range parallel {
		running.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					next.Store(int64(n))
					failed <- err
					return
				}
			}
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}
