package memcache

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bradfitz/gomemcache/memcache"

	"manna/breaker"
)

// Answers. They are returned as they are, so == is enough.
var (
	ErrMiss     = errors.New("memcached has no such key")
	ErrExists   = errors.New("memcached has the key already")
	ErrConflict = errors.New("memcached has another value by now")
)

var (
	// ErrFull: the server refuses to store, because it would have to throw
	// something away. What it has can still be read. It is wrapped.
	ErrFull = errors.New("memcached is full: give it more memory (-m)")
	// ErrDown: nothing is known of what the call did. It is wrapped with the
	// server and the reason.
	ErrDown = errors.New("memcached is away")
)

// maxKey is the longest key that memcached takes.
const maxKey = 250

func down(address string, why error) error {
	return fmt.Errorf("%w: %s: %w", ErrDown, address, why)
}

// judge says what an error of gomemcache means, and what it says about the
// server's health. gomemcache has no type for what a server refuses, only texts.
func judge(address string, err error) (breaker.Result, error) {
	switch {
	case err == nil:
		return breaker.Success, nil
	case errors.Is(err, memcache.ErrCacheMiss):
		return breaker.Success, ErrMiss
	case errors.Is(err, memcache.ErrNotStored):
		return breaker.Success, ErrExists
	case errors.Is(err, memcache.ErrCASConflict):
		return breaker.Success, ErrConflict
	case errors.Is(err, memcache.ErrMalformedKey), strings.Contains(err.Error(), "object too large"), strings.Contains(err.Error(), "CLIENT_ERROR"):
		return breaker.Abandoned, fmt.Errorf("memcached %s cannot take this: %w", address, err)
	case strings.Contains(err.Error(), "SERVER_ERROR out of memory"):
		return breaker.Success, fmt.Errorf("%s: %w", address, ErrFull)
	}
	return breaker.Failure, down(address, err)
}
