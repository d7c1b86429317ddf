package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"manna/breaker"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/memcache"
	"manna/ledger"
	"manna/producer"
	"manna/producer/memcached"
)

// openFront makes the claim front-end. A node without the role has one too: it reads
// the log for operators, and is not served.
func (n *Node) openFront(ctx context.Context, c *config.Config) error {
	snapshot, err := producer.NewSnapshot(c.Campaigns)
	if err != nil {
		return err
	}
	auth, err := n.auth(c)
	if err != nil {
		return err
	}
	key, err := receiptKey(c)
	if err != nil {
		return err
	}
	o := producer.Options{
		Log: n.log, Snapshot: snapshot, Auth: auth, Dev: n.opts.Dev, Unserved: !n.has(RoleFront), Users: userIndex{n.ledger}, Queue: n.queue, ReceiptKey: key,
		Limits: producer.Limits{InFlight: c.Limits.MaxInFlightClaims, Body: c.Limits.MaxBody, BatchBody: c.Limits.MaxBatchBody},
		Logger: n.logger, Metrics: n.registry,
	}
	if c.Guard.Engine == config.Memcached {
		client, err := n.client(c, memcache.Options{Name: "guard"})
		if err != nil {
			return err
		}
		if n.has(RoleFront) {
			n.stores = append(n.stores, &store{client: client, name: "guard", means: "claims go on, and the ledger is asked which of them other fronts have"})
		}
		if o.Guard, err = memcached.New(memcached.Options{Client: client, Node: c.Node, Prefix: c.Guard.Prefix, Logger: n.logger, Keep: max(leastKeep, longestWindow(c)+24*time.Hour)}); err != nil {
			return err
		}
	}
	if c.Clustered() {
		o.Elsewhere = n.shared
		if n.has(RoleFront) {
			o.Leases = &producer.Leases{Stock: n.shared, Holder: n.member.Holder}
		}
	}
	if c.Durability == config.Replicated {
		o.Replication = &producer.Replication{Feeder: n.feeder, Broken: func() bool { return n.sending.Snapshot().State == breaker.Open }}
	}
	n.front, err = producer.NewFront(ctx, o)
	return err
}

// leastKeep is how long the guard remembers at least: a reload may bring a longer
// campaign than any that was there at the start.
const leastKeep = 30 * 24 * time.Hour

// longestWindow is for how long the longest campaign takes claims.
func longestWindow(c *config.Config) (longest time.Duration) {
	for _, k := range c.Campaigns {
		longest = max(longest, k.Closes.Sub(k.Opens))
	}
	return longest
}

// receiptKey is what receipts are made with: out of the configuration's secret, which
// nodes share, or this node's own.
func receiptKey(c *config.Config) ([]byte, error) {
	if c.Receipts != "" {
		sum := sha256.Sum256([]byte("manna receipts " + string(c.Receipts)))
		return sum[:], nil
	}
	text, err := secret(disk.OS{}, c.Data, receiptFile)
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(text)
}

// client makes a client of the guard's servers, for one use of them. People may hold
// its breakers.
func (n *Node) client(c *config.Config, o memcache.Options) (*memcache.Client, error) {
	o.Servers, o.OnChange = c.Guard.Servers, newBreakerLog(n.logger).changed
	client, err := memcache.New(o)
	if err != nil {
		return nil, err
	}
	n.opened(client.Close)
	for _, b := range client.Breakers() {
		if err := n.addBreaker(b); err != nil {
			return nil, err
		}
	}
	return client, nil
}

func (n *Node) auth(c *config.Config) (*producer.Auth, error) {
	if c.Auth.JWT == nil && len(c.Auth.Callers) == 0 {
		if n.opts.Dev || !n.has(RoleFront) {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: auth is missing, so nobody could claim: add `auth: {jwt: …}` or `auth: {callers: …}`, or try things out with `manna serve --dev`", c.File)
	}
	o := producer.AuthOptions{Callers: make(map[string]string)}
	if j := c.Auth.JWT; j != nil {
		keys, err := os.ReadFile(j.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.key_file: %w", err)
		}
		o.JWT = &producer.JWTOptions{Algorithms: j.Algorithms, Keys: keys, Issuer: j.Issuer, Audience: j.Audience, Leeway: j.Leeway}
	}
	for _, caller := range c.Auth.Callers {
		o.Callers[caller.Name] = string(caller.Secret)
	}
	return producer.NewAuth(o)
}

// userIndex finds a user's claims in the ledger.
type userIndex struct{ ledger ledger.Claims }

func (u userIndex) UserClaims(ctx context.Context, user string, limit int) ([]gift.ClaimID, time.Time, error) {
	rows, asOf, _, err := u.ledger.UserClaims(ctx, user, ledger.Cursor{}, limit)
	if err == nil && asOf.IsZero() {
		err = errors.New("the ledger has taken nothing in yet")
	}
	ids := make([]gift.ClaimID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids, asOf, err
}
