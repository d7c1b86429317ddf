package memcache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/breaker"
	"manna/internal/memcache/memcachetest"
)

func open(t *testing.T, o Options) *Client {
	t.Helper()
	o.Name = "guard"
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second // a busy machine makes no server sick
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnswers(t *testing.T) {
	c, ctx := open(t, Options{Servers: []string{memcachetest.StartFake(t).Addr}}), t.Context()
	if _, err := c.Get(ctx, "k"); err != ErrMiss {
		t.Errorf("Get = %v, want %v", err, ErrMiss)
	}
	if err := c.Add(ctx, "k", []byte("1"), time.Minute); err != nil {
		t.Error(err)
	}
	if err := c.Add(ctx, "k", []byte("2"), time.Minute); err != ErrExists {
		t.Errorf("Add = %v, want %v", err, ErrExists)
	}
	item, err := c.Get(ctx, "k")
	if err != nil || string(item.Value) != "1" {
		t.Fatalf("Get = %q, %v", item.Value, err)
	}
	if err := c.Swap(ctx, item, []byte("3"), time.Minute); err != nil {
		t.Error(err)
	}
	if err := c.Swap(ctx, item, []byte("4"), time.Minute); err != ErrConflict {
		t.Errorf("Swap = %v, want %v", err, ErrConflict)
	}
	if item, err = c.Get(ctx, "k"); err != nil || string(item.Value) != "3" {
		t.Fatalf("Get = %q, %v", item.Value, err)
	}
	if err := c.Swap(ctx, item, nil, -1); err != nil {
		t.Error(err)
	}
	if err := c.Swap(ctx, item, []byte("5"), time.Minute); err != ErrMiss {
		t.Errorf("Swap = %v, want %v", err, ErrMiss)
	}
	// None of this says that the server is sick, and neither does our own mistake.
	for range 20 {
		for _, key := range []string{"", "a b", strings.Repeat("x", 251)} {
			if err := c.Set(ctx, key, nil, time.Minute); err == nil || errors.Is(err, ErrDown) {
				t.Errorf("Set(%.5q…) = %v, want an error that is ours", key, err)
			}
		}
	}
	if s := c.Breakers()[0].Snapshot(); s.Failures != 0 {
		t.Errorf("%d of %d calls count as failures", s.Failures, s.Calls)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now().Unix()
	for ttl, want := range map[time.Duration]int64{-1: -1, 0: 0, 1: 2, time.Second: 2, 90 * time.Minute: 5401, 30*24*time.Hour - time.Second - 1: 30 * 24 * 3600} {
		if got := int64(expiry(ttl)); got != want {
			t.Errorf("expiry(%v) = %d, want %d", ttl, got, want)
		}
	}
	if got := int64(expiry(31 * 24 * time.Hour)); got < now+31*24*3600 || got > now+31*24*3600+60 {
		t.Errorf("expiry of 31 days = %d, want a moment, 31 days after %d", got, now)
	}
}

func TestKeysKeepTheirServers(t *testing.T) {
	servers := []string{"a:1", "b:1", "c:1", "d:1"}
	home := func(key string, servers ...string) string {
		return servers[open(t, Options{Servers: servers}).Home(key)]
	}
	counts, moved := make(map[string]int), 0
	for i := range 2000 {
		key := fmt.Sprint("claim", i)
		at := home(key, servers...)
		counts[at]++
		if other := home(key, "d:1", "b:1", "a:1", "c:1"); other != at {
			t.Fatalf("%s is at %s, and with the list in another order at %s", key, at, other)
		}
		if fewer := home(key, servers[:3]...); fewer != at {
			moved++
			if at != "d:1" {
				t.Fatalf("%s moved from %s to %s, and d:1 went", key, at, fewer)
			}
		}
	}
	for _, s := range servers {
		if n := counts[s]; n < 400 || n > 600 {
			t.Errorf("%s has %d of 2000 keys, want about 500", s, n)
		}
	}
	if moved != counts["d:1"] {
		t.Errorf("%d keys moved, want %d", moved, counts["d:1"])
	}
	for i := range 50 {
		if a, b := home(fmt.Sprint("x{midas}", i), servers...), home("midas", servers...); a != b {
			t.Fatalf("a key with {midas} is at %s, midas at %s", a, b)
		}
	}
}

// One of two servers is sick: its keys fail, uncalled once it is taken out, and the
// other works.
func TestOneOfSeveralIsTakenOut(t *testing.T) {
	sick, well := memcachetest.StartFake(t), memcachetest.StartFake(t)
	sick.Fail(func(string, string) memcachetest.Fault { return memcachetest.Lose })
	c := open(t, Options{Servers: []string{sick.Addr, well.Addr}, OpenFor: time.Hour})
	var good, bad int
	for i := range 200 {
		key := fmt.Sprint("claim", i)
		_, err := c.Get(t.Context(), key)
		switch home := c.servers[c.Home(key)].address; {
		case home == sick.Addr && !errors.Is(err, ErrDown):
			t.Fatalf("Get of a server that hangs up = %v", err)
		case home == sick.Addr:
			bad++
		case err != ErrMiss:
			t.Fatalf("Get of the server that is well = %v, want %v", err, ErrMiss)
		default:
			good++
		}
	}
	if n := sick.Calls(); n > minCalls || bad <= minCalls {
		t.Errorf("the sick server was called %d times, want at most %d of %d", n, minCalls, bad)
	}
	if all := c.Breakers(); all[0].Snapshot().State != breaker.Closed || all[1].Snapshot().State != breaker.Open || all[2].Snapshot().State != breaker.Closed {
		t.Errorf("store %v, servers %v and %v, %d good calls", all[0].Snapshot().State, all[1].Snapshot().State, all[2].Snapshot().State, good)
	}
}

func TestHeldOpenIsNotCalled(t *testing.T) {
	fake := memcachetest.StartFake(t)
	c := open(t, Options{Servers: []string{fake.Addr}})
	c.Breakers()[0].Hold(breaker.HeldOpen)
	if err := c.Set(t.Context(), "k", nil, time.Minute); !errors.Is(err, ErrDown) || !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("Set = %v, want %v because of %v", err, ErrDown, breaker.ErrOpen)
	}
	if fake.Calls() != 0 {
		t.Error("a store that is held open was called")
	}
	c.Breakers()[0].Hold(breaker.Automatic)
	if err := c.Set(t.Context(), "k", nil, time.Minute); err != nil {
		t.Error(err)
	}
}

// More callers than room: those who find none in time are told, and none waits for
// long.
func TestRoomIsBounded(t *testing.T) {
	fake := memcachetest.StartFake(t)
	fake.Fail(func(string, string) memcachetest.Fault { return memcachetest.Hang })
	c := open(t, Options{Servers: []string{fake.Addr}, Parallel: 2, Timeout: 50 * time.Millisecond, OpenFor: time.Hour})
	c.Breakers()[0].Hold(breaker.HeldClosed)
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if _, err := c.Get(t.Context(), "k"); !errors.Is(err, ErrDown) {
				t.Errorf("Get = %v, want %v", err, ErrDown)
			}
		})
	}
	all.Wait()
	if n := fake.Calls(); n == 0 || n > 10 {
		t.Errorf("%d calls came through, want the few that had room", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v, want %v", err, context.Canceled)
	}
}

// Every idle connection dies with the server; once it is back none of them may fail
// a call.
func TestIdleConnectionsOfADeadServerAreForgotten(t *testing.T) {
	fake := memcachetest.StartFake(t)
	c := open(t, Options{Servers: []string{fake.Addr}})
	c.Breakers()[0].Hold(breaker.HeldClosed) // count every call
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for range 20 {
				if err := c.Set(t.Context(), "k", nil, time.Minute); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	fake.HangUp()
	failed := 0
	for range 32 {
		if c.Set(t.Context(), "k", nil, time.Minute) != nil {
			failed++
		}
	}
	if failed > 1 {
		t.Errorf("%d calls failed on connections that were dead, want at most 1", failed)
	}
}

func TestCheck(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	go func() {
		if conn, err := stranger.Accept(); err == nil {
			fmt.Fprint(conn, "220 mail.example ESMTP\r\n")
			conn.Close()
		}
	}()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody takes its connections, which are made all the same
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := open(t, Options{Servers: []string{memcachetest.StartFake(t).Addr, nobody, stranger.Addr().String(), silent.Addr().String()}})
	errs := c.Check(t.Context())
	if len(errs) != 3 {
		t.Fatalf("Check = %v, want three errors", errs)
	}
	for i, want := range []string{nobody + " cannot be reached", "not as memcached does", silent.Addr().String() + " does not answer within 2s"} {
		if !strings.Contains(errs[i].Error(), want) || !strings.Contains(errs[i].Error(), "correct guard: {servers}") {
			t.Errorf("%q does not say %q and the remedy", errs[i], want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		"write servers: [host:11211]":                           {Name: "guard"},
		"write host:port":                                       {Name: "guard", Servers: []string{"host"}},
		"named twice: take one of them out of guard: {servers}": {Name: "guard", Servers: []string{"a:1", "b:1", "a:1"}},
		"a b": {Name: "a b", Servers: []string{"a:1"}},
	} {
		if c, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, %v; want an error with %q", c, err, want)
		}
	}
}
