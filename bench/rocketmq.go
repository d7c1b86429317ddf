package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/producer"
	"manna/queue"
	"manna/queue/rocketmq"
)

// What a node has where its configuration says nothing else: see the options of
// rocketmq, and feedBatch of package node.
const (
	feedBatch    = 2048
	queueBatch   = 256
	queueSenders = 4
	queueCount   = 8
)

const (
	// brokerLead is how many messages of a turn of consumption are not timed: they may
	// lie in the consumer's memory already.
	brokerLead = queueCount*bareThreshold + 2*bareHandlers*barePull
	// brokerWithin bounds a turn.
	brokerWithin = 2 * time.Minute

	feeder = "rocketmq" // the name of the feeder's watermarks
	// The partner whose topic is fed, and the one whose topic the bare client has: both
	// topics are made by the same hand.
	benchLane, bareLane = "nobody", "nobodi"
)

// rocketMQ feeds the broker from a log and, in turns with it, sends as many messages
// of the same size with the bare client. Then it receives and acknowledges what was
// fed and, in turns with it, has the bare client consume what was sent.
func rocketMQ(ctx context.Context, o *options) (r *result, err error) {
	if o.messages < 2*brokerLead {
		return nil, fmt.Errorf("%d messages are too few: of each turn the first %d are not timed", o.messages, brokerLead)
	}
	e, err := readEngines(o.engines)
	if err != nil {
		return nil, err
	}
	w, err := newBrokerWorld(ctx, o, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	sending, err := w.production(ctx, o)
	if err != nil {
		return nil, err
	}
	received, consumed, err := w.consumption(ctx, o)
	if err != nil {
		return nil, err
	}
	fed, sent := median(sending.fed), median(sending.sent)
	through, bareThrough := median(sending.through), median(sending.bareThrough)
	taken, bareTaken := median(received), median(consumed)
	r = &result{Value: through, Unit: "orders/s from the log into the broker's queues", Against: []peer{
		{"bare batch producer", bareThrough, through / bareThrough},
		{"bare batch producer, until the broker confirms", sent, fed / sent},
		{"bare consumer; ours a lane", bareTaken, taken / bareTaken},
	}}
	r.add("orders fed, until the broker confirms", fed, "a second")
	r.add("orders received and acknowledged", taken, "a second")
	r.add("lowest and", sending.through[0], "orders/s into the queues")
	r.add("highest round", sending.through[len(sending.through)-1], "orders/s into the queues")
	r.add("lowest and", received[0], "orders/s received")
	r.add("highest round", received[len(received)-1], "orders/s received")
	r.add("bytes of a message's body", float64(len(w.producer.body)), "")
	return r, nil
}

// brokerWorld is a log with claims, its queue, and the bare client, on one broker.
type brokerWorld struct {
	engines  *engines
	log      *fallbacklog.Log
	queue    *rocketmq.Queue
	feeder   *producer.Feeder
	counter  *counter
	producer *bareProducer
	close    func() error
}

func newBrokerWorld(ctx context.Context, o *options, e *engines) (w *brokerWorld, err error) {
	w = &brokerWorld{engines: e}
	var closes []func() error
	w.close = func() (err error) {
		for i := len(closes) - 1; i >= 0; i-- {
			err = errors.Join(err, closes[i]())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.log, err = fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(o.temp, "log"), Node: "bench"}); err != nil {
		return nil, err
	}
	closes = append(closes, w.log.Close)
	if err := fill(ctx, w.log, benchLane, (o.rounds+1)*(o.messages+feedBatch)); err != nil {
		return nil, err
	}
	closes = append(closes, func() error { return removeTopics(e.Queue.Nameservers, e.name+"-") })
	if w.queue, err = rocketmq.Open(ctx, rocketmq.Options{
		NameServers: e.Queue.Nameservers, Cluster: e.Queue.Cluster, Group: e.name, Node: "bench",
		Queues: queueCount, Batch: queueBatch, Senders: queueSenders,
	}); err != nil {
		return nil, err
	}
	closes = append(closes, func() error { return w.queue.Close(context.Background()) })
	w.counter = &counter{to: w.queue}
	if w.feeder, err = producer.NewFeeder(producer.FeederOptions{Log: w.log, Queue: w.counter, Name: feeder, Batch: feedBatch}); err != nil {
		return nil, err
	}
	body, err := w.sample(ctx)
	if err != nil {
		return nil, err
	}
	w.producer, err = newBareProducer(e.Queue.Nameservers, e.name, w.bareTopic(), body)
	if err == nil {
		closes = append(closes, w.producer.client.Shutdown)
	}
	return w, err
}

// counter counts the messages that a queue has taken.
type counter struct {
	to   queue.Feedable
	mu   sync.Mutex // guards what follows
	left int
	done func()
	at   time.Time
}

// Feed implements queue.Feedable.
func (c *counter) Feed(ctx context.Context, msgs []*queue.Message) error {
	err := c.to.Feed(ctx, msgs)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left -= len(msgs); c.left <= 0 {
		c.at = time.Now()
		c.done()
	}
	return nil
}

// feed has the feeder bring n messages or a few more, and gives how many a second
// those were.
func (w *brokerWorld) feed(ctx context.Context, n int) (fed, through float64, err error) {
	bound, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	w.counter.left, w.counter.done = n, cancel
	began := time.Now()
	if err := w.feeder.Run(bound); err != nil {
		return 0, 0, err
	}
	if w.counter.left > 0 {
		return 0, 0, errors.Join(ctx.Err(), fmt.Errorf("%d of %d messages were not fed within %v", w.counter.left, n, brokerWithin))
	}
	if err := w.settle(ctx); err != nil {
		return 0, 0, err
	}
	whole, all := time.Since(began), float64(n-w.counter.left)
	return all / w.counter.at.Sub(began).Seconds(), all / whole.Seconds(), nil
}

// sending is what the rounds of production gave, in messages a second: until the broker
// had confirmed the last one, and until it had put that into its queue. A broker that is
// sent to as fast as it confirms falls behind with the latter, and a turn that ended there
// would leave its work to the next.
type sending struct {
	fed, through      []float64
	sent, bareThrough []float64
}

// production takes turns at sending.
func (w *brokerWorld) production(ctx context.Context, o *options) (*sending, error) {
	var all sending
	for round := range o.rounds + 1 {
		fed, through, err := w.feed(ctx, o.messages)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		took, err := w.producer.send(ctx, o.messages, queueBatch, queueSenders)
		if err != nil {
			return nil, fmt.Errorf("bare producer: %w", err)
		}
		if err := w.settle(ctx); err != nil {
			return nil, err
		}
		whole := time.Since(began)
		if round == 0 {
			continue
		}
		all.fed, all.through = append(all.fed, fed), append(all.through, through)
		all.sent, all.bareThrough = append(all.sent, float64(o.messages)/took.Seconds()), append(all.bareThrough, float64(o.messages)/whole.Seconds())
		last := round - 1
		fmt.Fprintf(o.out, "round %d  fed %8.0f/s, %8.0f/s into the queues; bare producer %8.0f/s, %8.0f/s\n", round, fed, through, all.sent[last], all.bareThrough[last])
	}
	return &all, nil
}

// settle waits until the broker has all that it confirmed in its queues.
func (w *brokerWorld) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	_, err := w.queue.Status(ctx, benchLane)
	return err
}

// bareTopic is where the bare client works.
func (w *brokerWorld) bareTopic() string { return w.engines.name + "-first-" + bareLane }

// bareConsumer starts one on that topic.
func (w *brokerWorld) bareConsumer() (*bareConsumer, error) {
	return newBareConsumer(w.engines.Queue.Nameservers, w.engines.name+"-bare", w.bareTopic())
}

// sample has the queue make the bare client's topic and put a message into it, and
// gives that one's body: those of the bare producer are to be the same.
func (w *brokerWorld) sample(ctx context.Context) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	claim := newClaim(bareLane, 0)
	if err := w.queue.Feed(ctx, []*queue.Message{{Claim: claim, Order: claim.Orders[0], Origin: w.log.End()}}); err != nil {
		return nil, err
	}
	c, err := w.bareConsumer()
	if err != nil {
		return nil, fmt.Errorf("bare consumer: %w", err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if _, err := c.consume(ctx, 1, 0); err != nil {
		return nil, fmt.Errorf("bare consumer: the message that was sent does not come: %w", err)
	}
	return c.body, nil
}

// consumption takes turns at taking what was sent.
func (w *brokerWorld) consumption(ctx context.Context, o *options) (ours, theirs []float64, err error) {
	lane, err := w.queue.Lane(ctx, benchLane)
	if err != nil {
		return nil, nil, err
	}
	c, err := w.bareConsumer()
	if err != nil {
		return nil, nil, fmt.Errorf("bare consumer: %w", err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for round := range o.rounds {
		bound, cancel := context.WithTimeout(ctx, brokerWithin)
		rate, err := receive(bound, lane, o.messages)
		if err == nil {
			ours = append(ours, rate)
			rate, err = c.consume(bound, o.messages, brokerLead)
		}
		cancel()
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, rate)
		fmt.Fprintf(o.out, "round %d  received and acknowledged %8.0f/s; bare consumer %8.0f/s\n", round+1, ours[round], theirs[round])
	}
	return ours, theirs, nil
}

// receive takes n messages of a lane and lets them go, as a consumer's lane does that
// waits for nothing. It gives how many a second they were without the first ones.
func receive(ctx context.Context, lane queue.Lane, n int) (float64, error) {
	began := time.Now()
	for i := range n {
		if i == brokerLead {
			began = time.Now()
		}
		m, err := lane.Receive(ctx)
		if err != nil {
			return 0, err
		}
		if err := lane.Ack(ctx, m); err != nil {
			return 0, err
		}
	}
	return float64(n-brokerLead) / time.Since(began).Seconds(), nil
}
