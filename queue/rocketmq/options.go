package rocketmq

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/breaker"
	"manna/gift"
)

// Options configure a queue. NameServers, Group and Node are required; zero
// values of the rest are replaced by the defaults named.
type Options struct {
	// NameServers are host:port addresses. They are asked in turn until one knows,
	// so any of them may be away, or have been started a moment ago.
	NameServers []string
	// Group begins the names of all topics and of the consumer groups. Two
	// installations on one cluster have different groups.
	Group string
	// Node is the node whose log the feeder follows.
	Node string
	// Cluster names the cluster whose brokers are used; it may be empty where the
	// name servers know one only.
	Cluster string
	// Queues is how many queues a topic gets on each broker, and must have in all:
	// more consumers than that do not share a lane. Default 8.
	Queues int
	// Batch is how many messages go to the broker in one request; default 256.
	Batch int
	// Senders is how many requests of all Feeds together, and of each Send, are under way
	// at once; default 4.
	Senders int
	// SendTimeout bounds one request to store messages; default 3 s.
	SendTimeout time.Duration
	// CommitEvery is the time between two writings of a lane's places; it bounds
	// what is received again when the process is killed. Default 200 ms.
	CommitEvery time.Duration
	// MaxDelay is the longest delay that the brokers' timers take
	// (timerMaxDelaySec); what is due later is deferred again on its way.
	// Default 24 h.
	MaxDelay time.Duration
	// Breaker guards what is sent. While it refuses, Feed waits, Send fails, and
	// what is deferred stays with its lane. Default: none.
	Breaker *breaker.Breaker
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

func (o *Options) complete() error {
	if len(o.NameServers) == 0 {
		return errors.New("a rocketmq queue needs a name server: queue: {nameservers: [host:9876]}")
	}
	for _, addr := range o.NameServers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("name server %q: %w; write host:port", addr, err)
		}
	}
	if err := checkGroup(o.Group); err != nil {
		return err
	}
	if err := gift.CheckName(o.Node); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	def(&o.Queues, 8)
	def(&o.Batch, 256)
	def(&o.Senders, 4)
	def(&o.SendTimeout, 3*time.Second)
	def(&o.CommitEvery, 200*time.Millisecond)
	def(&o.MaxDelay, 24*time.Hour)
	if o.Queues < 0 || o.Batch < 0 || o.Senders < 0 || o.SendTimeout < 0 || o.CommitEvery < 0 || o.MaxDelay < time.Minute {
		return errors.New("a rocketmq queue's numbers and times are above zero, and MaxDelay is a minute at least")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	return nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
