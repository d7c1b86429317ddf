package memcached

import (
	"errors"
	"testing"
	"time"

	"manna/consumer/quota"
	"manna/consumer/quota/quotatest"
	"manna/internal/memcache"
	"manna/internal/memcache/memcachetest"
)

func open(t *testing.T, servers ...string) *Centre {
	t.Helper()
	c, err := memcache.New(memcache.Options{Name: "quota", Servers: servers, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return New(c, "")
}

func TestCentre(t *testing.T) {
	fake := memcachetest.StartFake(t)
	quotatest.Run(t, func(t *testing.T) quota.Centre { return open(t, fake.Addr) })
}

// What is no register is not overwritten.
func TestForeignRegister(t *testing.T) {
	fake := memcachetest.StartFake(t)
	c := open(t, fake.Addr)
	for _, value := range []string{"hello", "2 1 1 1"} {
		if err := c.client.Set(t.Context(), c.key("p"), []byte(value), time.Minute); err != nil {
			t.Fatal(err)
		}
		if r, _, err := c.Load(t.Context(), "p"); err == nil || errors.Is(err, quota.ErrMissing) {
			t.Errorf("Load of %q = %+v, %v, want an error", value, r, err)
		}
		if err := c.Store(t.Context(), "p", quota.Register{Spacing: 1}, nil); err != quota.ErrChanged {
			t.Errorf("Store over %q = %v, want %v", value, err, quota.ErrChanged)
		}
	}
}

func TestCentreThatIsAway(t *testing.T) {
	fake := memcachetest.StartFake(t)
	c := open(t, fake.Addr)
	if err := c.Store(t.Context(), "p", quota.Register{Spacing: 1, Next: 1}, nil); err != nil {
		t.Fatal(err)
	}
	_, v, err := c.Load(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	fake.Fail(func(string, string) memcachetest.Fault { return memcachetest.LoseLate })
	if err := c.Store(t.Context(), "p", quota.Register{Spacing: 1, Next: 2}, v); !errors.Is(err, memcache.ErrDown) {
		t.Errorf("Store = %v, want %v", err, memcache.ErrDown)
	}
	fake.Fail(nil)
	// It was stored all the same: who was not told has lost what it took.
	if r, _, err := c.Load(t.Context(), "p"); err != nil || r.Next != 2 {
		t.Errorf("Load = %+v, %v, want the register that was stored", r, err)
	}
}
