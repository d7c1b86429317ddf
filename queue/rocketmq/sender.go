package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	client "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"manna/breaker"
	"manna/queue"
)

const (
	// routeAge is how long the queues of a topic are taken as known.
	routeAge = 30 * time.Second
	// sickFor is how long a broker that failed is passed over where there is
	// another.
	sickFor = 5 * time.Second
	// illegalPrefix begins the client's error for a message that the broker takes
	// for illegal, which is to say too large; tooLargeText is in the one for a request
	// of several.
	illegalPrefix = "CODE: 13,"
	tooLargeText  = "message body size exceeded"
	// unknownPrefix begins its error for a topic that the broker does not have.
	unknownPrefix = "CODE: 17,"
)

// errTooLarge: the broker takes no message of this size.
var errTooLarge = errors.New("larger than the broker takes (maxMessageSize)")

// sender puts messages into topics. It is safe for concurrent use.
type sender struct {
	cluster  *cluster
	producer client.Producer
	breaker  *breaker.Breaker // may be nil
	timeout  time.Duration

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup // sends under way
	routes map[string]*targets
	sick   map[string]time.Time // brokers to be passed over until then
}

// targets are the queues of a topic that can be written, taken in turn. Which ones
// does not change; the rest is guarded by sender.mu.
type targets struct {
	shards []shard
	turn   int
	asked  time.Time
}

func newSender(o *Options, c *cluster, instance string) (*sender, error) {
	p, err := client.NewProducer(
		producer.WithNsResolver(primitive.NewPassthroughResolver(clientAddrs(o.NameServers))),
		producer.WithGroupName(o.Group),
		producer.WithInstanceName(instance),
		// Whoever sends decides what to do next. The client's own repeats would each
		// take the whole timeout again.
		producer.WithRetry(0),
		producer.WithSendMsgTimeout(o.SendTimeout),
		producer.WithQueueSelector(producer.NewManualQueueSelector()),
		producer.WithCompressMsgBodyOverHowmuch(math.MaxInt32),
	)
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return &sender{
		cluster: c, producer: p, breaker: o.Breaker, timeout: o.SendTimeout,
		routes: make(map[string]*targets), sick: make(map[string]time.Time),
	}, nil
}

// clientAddrs writes addresses as the client wants them: it takes a host by name
// only behind a scheme, which it does not use.
func clientAddrs(addrs []string) []string {
	all := make([]string, len(addrs))
	for i, addr := range addrs {
		all[i] = "http://" + addr
	}
	return all
}

// patience says what a sender does while the breaker refuses.
type patience bool

const (
	waits patience = true
	fails patience = false
)

// send stores a message, or a batch of them, in one queue of a topic, all or none. Nil
// means that the broker has said SEND_OK; after an error it may have been stored. It
// does not end with ctx once the request is on its way: the client closes a
// connection that others share when its context ends.
func (s *sender) send(ctx context.Context, p patience, topic string, m *primitive.Message) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.work.Done()
	call, err := s.admit(ctx, p)
	if err != nil {
		return err
	}
	result := breaker.Failure
	if call != nil {
		defer func() { call.Done(result) }()
	}
	to, err := s.target(topic)
	if err != nil {
		return err
	}
	m.Topic, m.Queue = topic, &primitive.MessageQueue{Topic: topic, BrokerName: to.broker, QueueId: to.id}
	answer, err := s.producer.SendSync(context.Background(), m)
	switch {
	case err != nil && (strings.HasPrefix(err.Error(), illegalPrefix) || strings.Contains(err.Error(), tooLargeText)):
		result = breaker.Success
		return fmt.Errorf("%v: %w: %w", to, errTooLarge, err)
	case err != nil && strings.HasPrefix(err.Error(), unknownPrefix):
		// The broker is well, but for what it has lost.
		result = breaker.Success
		s.unlearn(topic)
		return fmt.Errorf("%v: %w: %w", to, errNoTopic, err)
	case err == nil && answer.Status != primitive.SendOK:
		err = fmt.Errorf("the broker has what was sent and says %v, not SEND_OK", sendStatus(answer.Status))
	}
	if err != nil {
		s.failed(to)
		return fmt.Errorf("to %v: %w", to, err)
	}
	result = breaker.Success
	return nil
}

// admit passes the breaker. There is no call where there is no breaker.
func (s *sender) admit(ctx context.Context, p patience) (*breaker.Call, error) {
	if s.breaker == nil {
		return nil, ctx.Err()
	}
	for {
		if p == waits {
			if err := s.breaker.Wait(ctx); err != nil {
				return nil, err
			}
		}
		call, err := s.breaker.Allow()
		if err == nil || p == fails || !errors.Is(err, breaker.ErrOpen) {
			return call, err
		}
	}
}

// target picks the next queue of a topic.
func (s *sender) target(topic string) (shard, error) {
	for {
		s.mu.Lock()
		known := s.routes[topic]
		if known != nil && time.Since(known.asked) <= routeAge {
			defer s.mu.Unlock()
			return s.next(known), nil
		}
		s.mu.Unlock()
		found, err := s.route(topic, known)
		if err != nil {
			return shard{}, err
		}
		s.mu.Lock()
		if s.routes[topic] == known {
			defer s.mu.Unlock()
			if known != nil {
				found.turn = known.turn
			}
			s.routes[topic] = found
			return s.next(found), nil
		}
		// They have been asked for, or unlearned, since.
		s.mu.Unlock()
	}
}

// route asks for the queues of a topic. What was known a while ago will do while
// nobody can be asked.
func (s *sender) route(topic string, known *targets) (*targets, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	shards, err := s.cluster.shards(ctx, topic, permWrite)
	switch {
	case err == nil && len(shards) > 0:
		return &targets{shards: shards, asked: time.Now()}, nil
	case known != nil:
		return &targets{shards: known.shards, asked: time.Now()}, nil
	case err == nil:
		err = fmt.Errorf("topic %s: no queue of it can be written just now", topic)
	}
	return nil, err
}

// next takes a turn, and passes over brokers that have just failed. It requires s.mu.
func (s *sender) next(t *targets) shard {
	for range t.shards {
		t.turn++
		to := t.shards[t.turn%len(t.shards)]
		if !time.Now().Before(s.sick[to.broker]) {
			return to
		}
	}
	return t.shards[t.turn%len(t.shards)]
}

// unlearn has a topic's queues asked for again, and nothing sent to those known so far.
func (s *sender) unlearn(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.routes, topic)
}

// failed has a broker passed over, and its topic's queues asked for again.
func (s *sender) failed(to shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick[to.broker] = time.Now().Add(sickFor)
	if t := s.routes[to.topic]; t != nil {
		t.asked = time.Time{}
	}
}

// enter notes a send that begins; whoever calls it calls s.work.Done.
func (s *sender) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return queue.ErrClosed
	}
	s.work.Add(1)
	return nil
}

// close waits for the sends under way: the client must not be shut down under them.
func (s *sender) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
	return s.producer.Shutdown()
}

func sendStatus(s primitive.SendStatus) string {
	switch s {
	case primitive.SendFlushDiskTimeout:
		return "FLUSH_DISK_TIMEOUT"
	case primitive.SendFlushSlaveTimeout:
		return "FLUSH_SLAVE_TIMEOUT"
	case primitive.SendSlaveNotAvailable:
		return "SLAVE_NOT_AVAILABLE"
	}
	return fmt.Sprint(int(s))
}
