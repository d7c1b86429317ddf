package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/engine"
	"manna/fallbacklog/bucket/s3"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/ledger"
	"manna/ledger/postgres"
	"manna/ledger/sqlite"
	"manna/producer"
	"manna/queue/embedded"
	"manna/queue/rocketmq"
)

// queueBreaker is the name of the switch of what is sent to the queue.
const queueBreaker = "queue"

// renewEvery is how often a node tells the archive that it has nothing more.
const renewEvery = 15 * time.Second

// OpenBucket makes the bucket of the archive. It asks nobody.
func OpenBucket(c *config.Config) (bucket.Bucket, error) {
	b, err := engine.New(c.Archive.URL, s3.Keys{Access: string(c.Archive.AccessKey), Secret: string(c.Archive.SecretKey)})
	if err != nil {
		return nil, fmt.Errorf("archive.url: %w", err)
	}
	return b, nil
}

// openArchive makes the archiver. A bucket that a person has to put right is
// refused; one that cannot be reached is tried again by the archiver.
func (n *Node) openArchive(ctx context.Context, c *config.Config) (err error) {
	if c.Archive.URL == "" {
		return nil
	}
	if n.bucket, err = OpenBucket(c); err != nil {
		return err
	}
	n.opened(n.bucket.Close)
	if err := n.bucket.Check(ctx); bucket.Lasting(err) {
		return fmt.Errorf("archive.url: %w", err)
	} else if err != nil {
		n.logger.Error("the archive cannot be used yet; claims and deliveries go on, it is tried again", "err", err)
	}
	n.archiver, err = fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: n.log, Bucket: n.bucket, Renew: renewEvery, Logger: n.logger, Metrics: n.registry})
	return err
}

// openLedger makes the ledger and its follower, and joins the register of nodes
// where there is one.
func (n *Node) openLedger(ctx context.Context, c *config.Config) (err error) {
	if c.Ledger.Engine == config.Postgres {
		l, err := postgres.Open(ctx, postgres.Options{DSN: string(c.Ledger.DSN), Node: c.Node, Schema: c.Ledger.Schema, Later: true, Logger: n.logger})
		if err != nil {
			return fmt.Errorf("ledger.dsn: %w", err)
		}
		n.ledger, n.shared = l, l
	} else {
		n.patient = ledger.NewPatient(func(ctx context.Context) (ledger.Ledger, error) {
			return sqlite.Open(ctx, sqlite.Options{Dir: filepath.Join(c.Data, "ledger"), Node: c.Node, Logger: n.logger})
		}, n.logger)
		n.ledger = n.patient
	}
	n.opened(n.ledger.Close)
	if n.follower, err = ledger.NewFollower(ledger.FollowerOptions{Log: n.log, Store: n.ledger, Logger: n.logger, Metrics: n.registry}); err != nil || n.shared == nil {
		return err
	}
	home, err := secret(disk.OS{}, c.Data, homeFile)
	if err != nil {
		return err
	}
	place, err := placeOf(filepath.Join(c.Data, homeFile))
	if err != nil {
		return err
	}
	n.member = newMember(n.shared, ledger.Process{
		Node: c.Node, Home: home, Place: place, Roles: names(n.opts.Roles), Version: n.opts.Version, Address: reachable(n.Admin()), End: n.log.Found(),
	}, n.log.Tip, !c.Clustered(), n.logger)
	return n.member.join(ctx)
}

// openQueue makes the queue and, where brokers have it, its feeder.
func (n *Node) openQueue(ctx context.Context, c *config.Config) error {
	if c.Queue.Engine != config.RocketMQ {
		q, err := embedded.Open(ctx, embedded.Options{Log: n.log, Dir: filepath.Join(c.Data, "lanes"), Logger: n.logger, Metrics: n.registry})
		if err != nil {
			return err
		}
		n.queue = q
		n.opened(func() error { return q.Close(context.WithoutCancel(ctx)) })
		return nil
	}
	var err error
	if n.sending, err = breaker.New(queueBreaker, sendingSettings(), breaker.OnChange(newBreakerLog(n.logger).changed)); err != nil {
		return err
	}
	if err := n.addBreaker(n.sending); err != nil {
		return err
	}
	o := brokerOptions(c)
	o.Breaker, o.Logger, o.Metrics = n.sending, n.logger, n.registry
	q, err := rocketmq.Open(ctx, o)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	n.queue, n.broker = q, q
	n.opened(func() error { return q.Close(context.WithoutCancel(ctx)) })
	n.feeder, err = producer.NewFeeder(producer.FeederOptions{Log: n.log, Queue: q, Name: n.feederName(), Batch: feedBatch, Logger: n.logger})
	return err
}

// reachable is an address as other machines may use it.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return address
	}
	name, err := os.Hostname()
	if err != nil {
		return address
	}
	return net.JoinHostPort(name, port)
}

func brokerOptions(c *config.Config) rocketmq.Options {
	return rocketmq.Options{NameServers: c.Queue.Nameservers, Group: c.Queue.Group, Node: c.Node, Cluster: c.Queue.Cluster, Queues: c.Queue.Queues}
}

// feedBatch is what several requests bring to the brokers. Where one of them fails all are
// sent again; and a few thousand orders would no longer be in the processor's cache when
// they are written.
const feedBatch = 1024

// sendingSettings are those of the breaker of what is sent to the queue: a broker
// that hangs is left alone soon, and tried again soon.
func sendingSettings() breaker.Settings {
	return breaker.Settings{Window: 20 * time.Second, FailureRatio: 0.5, MinCalls: 5, SlowCall: 2 * time.Second, OpenFor: 3 * time.Second, Timeout: 5 * time.Second}
}

// feederName is what the feeder's watermarks are filed under. Topics of another
// group hold nothing of what this one's have.
func (n *Node) feederName() string { return config.RocketMQ + "/" + n.opts.Config.Queue.Group }
