//go:build engines

package memcached

import (
	"testing"

	"manna/consumer/quota"
	"manna/consumer/quota/quotatest"
	"manna/internal/memcache/memcachetest"
)

func TestCentreOnMemcached(t *testing.T) {
	one, two := memcachetest.Start(t, "-M"), memcachetest.Start(t, "-M")
	quotatest.Run(t, func(t *testing.T) quota.Centre { return open(t, one.Addr, two.Addr) })
}
