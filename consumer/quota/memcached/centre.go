package memcached

import (
	"context"
	"fmt"
	"time"

	"manna/consumer/quota"
	"manna/internal/memcache"
)

// keep is how long a register lives that nobody uses. What it says is over after
// seconds.
const keep = 24 * time.Hour

// Centre implements quota.Centre.
type Centre struct {
	client *memcache.Client
	prefix string
}

// New makes a centre; an empty prefix means "manna:". It connects to nothing.
func New(client *memcache.Client, prefix string) *Centre {
	if prefix == "" {
		prefix = "manna:"
	}
	return &Centre{client: client, prefix: prefix}
}

func (c *Centre) key(partner string) string { return c.prefix + "q:" + partner }

// Load implements quota.Centre.
func (c *Centre) Load(ctx context.Context, partner string) (quota.Register, quota.Version, error) {
	item, err := c.client.Get(ctx, c.key(partner))
	switch {
	case err == memcache.ErrMiss:
		return quota.Register{}, nil, quota.ErrMissing
	case err != nil:
		return quota.Register{}, nil, err
	}
	var r quota.Register
	if err := r.UnmarshalText(item.Value); err != nil {
		return quota.Register{}, nil, fmt.Errorf("key %s: %w", c.key(partner), err)
	}
	return r, item, nil
}

// Store implements quota.Centre.
func (c *Centre) Store(ctx context.Context, partner string, r quota.Register, v quota.Version) error {
	text, err := r.AppendText(nil)
	if err != nil {
		return err
	}
	if item, ok := v.(memcache.Item); ok {
		err = c.client.Swap(ctx, item, text, keep)
	} else {
		err = c.client.Add(ctx, c.key(partner), text, keep)
	}
	switch err {
	case memcache.ErrMiss, memcache.ErrExists, memcache.ErrConflict:
		return quota.ErrChanged
	}
	return err
}
