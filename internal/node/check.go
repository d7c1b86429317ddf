package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/memcache"
	"manna/ledger/postgres"
	"manna/queue/rocketmq"
)

// checkWithin bounds the look at one engine.
const checkWithin = 15 * time.Second

// Verdict says whether what a node stands on could be used now: its directory, or an
// engine that has servers.
type Verdict struct {
	Key     string   `json:"key"`    // of the configuration: data, queue, guard, ledger, archive
	Engine  string   `json:"engine"` // directory, rocketmq, memcached, postgres or s3
	OK      bool     `json:"ok"`
	Found   string   `json:"found,omitempty"`   // what is there
	Notes   []string `json:"notes,omitempty"`   // what a person should see to, though it can be used
	Problem string   `json:"problem,omitempty"` // what is wrong, and the remedy
	TookS   float64  `json:"took_s"`
}

// aDirectory is the engine of what this machine's disk keeps.
const aDirectory = "directory"

// CheckEngines looks at the directories and asks the servers of every engine that has
// some. It leaves nothing behind but, in an archive from which nobody may remove
// anything, a probe.
func CheckEngines(ctx context.Context, c *config.Config) []Verdict {
	type look struct {
		Verdict
		at func(context.Context, *config.Config, *Verdict) error
	}
	looks := []look{{Verdict{Key: "data", Engine: aDirectory}, checkData}}
	if c.Queue.Engine == config.RocketMQ {
		looks = append(looks, look{Verdict{Key: "queue", Engine: config.RocketMQ}, checkQueue})
	}
	if c.Guard.Engine == config.Memcached {
		looks = append(looks, look{Verdict{Key: "guard", Engine: config.Memcached}, checkGuard})
	}
	if c.Ledger.Engine == config.Postgres {
		looks = append(looks, look{Verdict{Key: "ledger", Engine: config.Postgres}, checkLedger})
	}
	if scheme, _, ok := strings.Cut(c.Archive.URL, ":"); ok {
		if scheme == "file" {
			scheme = aDirectory
		}
		looks = append(looks, look{Verdict{Key: "archive", Engine: scheme}, checkArchive})
	}
	verdicts := make([]Verdict, len(looks))
	var looking sync.WaitGroup
	for i, l := range looks {
		looking.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, checkWithin)
			defer cancel()
			began := time.Now()
			v := l.Verdict
			err := l.at(bounded, c, &v)
			v.OK, v.TookS = err == nil, time.Since(began).Seconds()
			if err != nil {
				v.Problem = err.Error()
			}
			verdicts[i] = v
		})
	}
	looking.Wait()
	return verdicts
}

func checkData(_ context.Context, c *config.Config, v *Verdict) error {
	there, err := disk.Probe(disk.OS{}, c.Data)
	if err != nil {
		return fmt.Errorf("%w: name one in data: that this process can write to and that has room", err)
	}
	v.Found = c.Data + " can be written"
	if !there {
		v.Found = c.Data + " will be made"
	}
	return nil
}

func checkQueue(ctx context.Context, c *config.Config, v *Verdict) error {
	var partners []string
	for _, p := range c.Partners {
		partners = append(partners, p.Name)
	}
	found, err := rocketmq.Check(ctx, brokerOptions(c), partners...)
	v.Found = strings.Join(found.Brokers, ", ")
	if len(found.Missing) > 0 {
		// Whether there were some before, the brokers cannot tell.
		v.Found += fmt.Sprintf("; %d topics are not there and will be made (%s): if this cluster has worked before, a broker has lost its store, and manna reconcile brings back what was in it",
			len(found.Missing), strings.Join(found.Missing, ", "))
	}
	for _, addr := range found.Away {
		v.Notes = append(v.Notes, fmt.Sprintf("name server %s is away or knows no broker, and another does its work: start it, or take it out of queue: {nameservers}", addr))
	}
	return err
}

func checkGuard(ctx context.Context, c *config.Config, v *Verdict) error {
	client, err := memcache.New(memcache.Options{Name: "guard", Servers: c.Guard.Servers})
	if err != nil {
		return err
	}
	defer client.Close()
	bad := client.Check(ctx)
	v.Found = fmt.Sprintf("%d of %d servers answer", len(c.Guard.Servers)-len(bad), len(c.Guard.Servers))
	return errors.Join(bad...)
}

func checkLedger(ctx context.Context, c *config.Config, v *Verdict) (err error) {
	o := postgres.Options{DSN: string(c.Ledger.DSN), Node: c.Node, Schema: c.Ledger.Schema}
	if v.Found, err = postgres.Check(ctx, o); err != nil {
		return err
	}
	began, ended, theirs, err := postgres.Clock(ctx, o)
	if err != nil {
		return err
	}
	k := newClock(slog.New(slog.DiscardHandler))
	k.compare(began, ended, theirs)
	if note := k.note(); note != "" {
		v.Notes = append(v.Notes, note)
	}
	return nil
}

func checkArchive(ctx context.Context, c *config.Config, v *Verdict) error {
	b, err := OpenBucket(c)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.Check(ctx); err != nil {
		return err
	}
	v.Found = fmt.Sprint(b)
	return nil
}
