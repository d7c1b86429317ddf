//go:build engines

package memcache

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"manna/internal/memcache/memcachetest"
)

func TestFullMemcachedRefuses(t *testing.T) {
	c := open(t, Options{Servers: []string{memcachetest.Start(t, "-M", "-m", "8").Addr}})
	value := make([]byte, 100_000)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = c.Add(t.Context(), fmt.Sprint("k", n), value, time.Hour)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d values Add = %v, want %v", n, err, ErrFull)
	}
	if _, err := c.Get(t.Context(), "k0"); err != nil {
		t.Errorf("the first value: %v", err)
	}
	if err := c.Set(t.Context(), "large", make([]byte, 2<<20), time.Hour); err == nil || errors.Is(err, ErrDown) {
		t.Errorf("Set of 2 MiB = %v, want an error that is ours", err)
	}
}

func TestSwapAndExpiryOnMemcached(t *testing.T) {
	c := open(t, Options{Servers: []string{memcachetest.Start(t, "-M").Addr}})
	for _, ttl := range []time.Duration{time.Minute, 29 * 24 * time.Hour, 40 * 24 * time.Hour, 0} {
		key := fmt.Sprint("k", int64(ttl))
		if err := c.Add(t.Context(), key, []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
		item, err := c.Get(t.Context(), key)
		if err != nil {
			t.Fatalf("with %v to live: %v", ttl, err)
		}
		if err := c.Swap(t.Context(), item, nil, -1); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(t.Context(), key, []byte("w"), ttl); err != nil {
			t.Errorf("a key that was removed: %v", err)
		}
	}
}

func TestCheckOfMemcached(t *testing.T) {
	good, evicts := memcachetest.Start(t, "-M"), memcachetest.Start(t)
	errs := open(t, Options{Servers: []string{good.Addr, evicts.Addr}}).Check(t.Context())
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), evicts.Addr) || !strings.Contains(errs[0].Error(), "-M") {
		t.Errorf("Check = %v, want one about %s", errs, evicts.Addr)
	}
}
