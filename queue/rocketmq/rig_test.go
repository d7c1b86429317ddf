//go:build engines

package rocketmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/gift"
	"manna/ops/local/engines"
	"manna/queue"
	"manna/queue/rocketmq"
)

// patience is how long anything may take that must happen.
const patience = 40 * time.Second

// rig is a real name server and broker, and a group of our own on them.
type rig struct {
	*testing.T
	servers *engines.Engines
	addr    string // the name server's
	group   string
	log     *record
	metrics *prometheus.Registry
	users   int
}

func newRig(t *testing.T) *rig {
	servers := engines.Up(t, engines.NameServer, engines.Broker)
	r := &rig{
		T: t, servers: servers, addr: servers.Addr(engines.NameServer), group: fmt.Sprintf("test%08x", rand.Uint32()),
		log: &record{}, metrics: prometheus.NewRegistry(),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := rocketmq.RemoveTopics(ctx, r.addr, r.group+"-"); err != nil {
			t.Errorf("topics are left behind: %v", err)
		}
	})
	return r
}

func (r *rig) options(node string, queues int) rocketmq.Options {
	return rocketmq.Options{
		NameServers: []string{r.addr}, Group: r.group, Node: node, Queues: queues, SendTimeout: time.Second,
		Logger: slog.New(r.log), Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"node": node}, r.metrics),
	}
}

// open opens a queue that is closed when the test ends, unless it was before.
func (r *rig) open(node string, queues int) *rocketmq.Queue {
	r.Helper()
	q, err := rocketmq.Open(r.Context(), r.options(node, queues))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			r.Errorf("close: %v", err)
		}
	})
	return q
}

func (r *rig) lane(q *rocketmq.Queue, partner string) queue.Lane {
	r.Helper()
	l, err := q.Lane(r.Context(), partner)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

// claims makes messages of one order each, the oldest first.
func (r *rig) claims(n int, partner string) []*queue.Message {
	var msgs []*queue.Message
	for range n {
		r.users++
		user := fmt.Sprint("u", r.users)
		id := gift.NewCampaignID(r.group).ClaimID("rain", user, "")
		now := time.Now().UTC()
		c := &gift.Claim{ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: now, DeliverBy: now.Add(time.Hour)}
		c.Orders = []gift.Order{{ID: id.OrderID("item"), Item: "item", Partner: partner, Quantity: 1}}
		msgs = append(msgs, &queue.Message{Claim: c, Order: c.Orders[0], Origin: 1})
	}
	return msgs
}

func (r *rig) feed(q *rocketmq.Queue, msgs ...*queue.Message) {
	r.Helper()
	if err := q.Feed(r.Context(), msgs)(); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) receive(l queue.Lane) *queue.Message {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	m, err := l.Receive(ctx)
	if err != nil {
		r.Fatalf("receive: %v", err)
	}
	return m
}

func (r *rig) ack(l queue.Lane, m *queue.Message) {
	r.Helper()
	if err := l.Ack(r.Context(), m); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) status(q *rocketmq.Queue, partner string) queue.Status {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	s, err := q.Status(ctx, partner)
	if err != nil {
		r.Fatalf("status: %v", err)
	}
	return s
}

// count counts the lines that have all these parts.
func (h *record) count(parts ...string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.lines {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			n++
		}
	}
	return n
}
