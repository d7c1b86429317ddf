package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"manna/internal/config"
	"manna/internal/memcache"
	"manna/ledger/postgres"
	"manna/queue/rocketmq"
)

// checkWithin bounds the look at one engine.
const checkWithin = 15 * time.Second

// Verdict says whether an engine that has servers could be used now.
type Verdict struct {
	Key     string  `json:"key"`    // of the configuration: queue, guard, ledger, archive
	Engine  string  `json:"engine"` // rocketmq, memcached, postgres or s3
	OK      bool    `json:"ok"`
	Found   string  `json:"found,omitempty"`   // who answered
	Problem string  `json:"problem,omitempty"` // what is wrong, and the remedy
	TookS   float64 `json:"took_s"`
}

// CheckEngines asks the servers of every engine that has some. It creates nothing
// but, in an archive, a probe that it takes away again.
func CheckEngines(ctx context.Context, c *config.Config) []Verdict {
	type look struct {
		Verdict
		at func(context.Context, *config.Config) (string, error)
	}
	var looks []look
	if c.Queue.Engine == config.RocketMQ {
		looks = append(looks, look{Verdict{Key: "queue", Engine: config.RocketMQ}, checkQueue})
	}
	if c.Guard.Engine == config.Memcached {
		looks = append(looks, look{Verdict{Key: "guard", Engine: config.Memcached}, checkGuard})
	}
	if c.Ledger.Engine == config.Postgres {
		looks = append(looks, look{Verdict{Key: "ledger", Engine: config.Postgres}, checkLedger})
	}
	if scheme, _, ok := strings.Cut(c.Archive.URL, ":"); ok && scheme != "file" {
		looks = append(looks, look{Verdict{Key: "archive", Engine: scheme}, checkArchive})
	}
	verdicts := make([]Verdict, len(looks))
	var looking sync.WaitGroup
	for i, l := range looks {
		looking.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, checkWithin)
			defer cancel()
			began := time.Now()
			found, err := l.at(bounded, c)
			v := l.Verdict
			v.OK, v.Found, v.TookS = err == nil, found, time.Since(began).Seconds()
			if err != nil {
				v.Problem = err.Error()
			}
			verdicts[i] = v
		})
	}
	looking.Wait()
	return verdicts
}

func checkQueue(ctx context.Context, c *config.Config) (string, error) {
	var partners []string
	for _, p := range c.Partners {
		partners = append(partners, p.Name)
	}
	brokers, missing, err := rocketmq.Check(ctx, brokerOptions(c), partners...)
	found := strings.Join(brokers, ", ")
	if len(missing) > 0 {
		// Whether there were some before, the brokers cannot tell.
		found += fmt.Sprintf("; %d topics are not there and will be made (%s): if this cluster has worked before, a broker has lost its store, and manna reconcile brings back what was in it",
			len(missing), strings.Join(missing, ", "))
	}
	return found, err
}

func checkGuard(ctx context.Context, c *config.Config) (string, error) {
	client, err := memcache.New(memcache.Options{Name: "guard", Servers: c.Guard.Servers})
	if err != nil {
		return "", err
	}
	defer client.Close()
	bad := client.Check(ctx)
	return fmt.Sprintf("%d of %d servers answer", len(c.Guard.Servers)-len(bad), len(c.Guard.Servers)), errors.Join(bad...)
}

func checkLedger(ctx context.Context, c *config.Config) (string, error) {
	return postgres.Check(ctx, postgres.Options{DSN: string(c.Ledger.DSN), Node: c.Node, Schema: c.Ledger.Schema})
}

func checkArchive(ctx context.Context, c *config.Config) (string, error) {
	b, err := OpenBucket(c)
	if err != nil {
		return "", err
	}
	defer b.Close()
	if err := b.Check(ctx); err != nil {
		return "", err
	}
	return fmt.Sprint(b), nil
}
