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
	feedBatch    = 1024
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
	fed, sent, err := w.production(ctx, o)
	if err != nil {
		return nil, err
	}
	received, consumed, err := w.consumption(ctx, o)
	if err != nil {
		return nil, err
	}
	confirmed, through := func(p pace) float64 { return p.confirmed }, func(p pace) float64 { return p.through }
	rounds := each(fed, through)
	ours, theirs := median(rounds), median(each(sent, through))
	burst, bareBurst := median(each(fed, confirmed)), median(each(sent, confirmed))
	taken, bareTaken := median(received), median(consumed)
	r = &result{Value: ours, Unit: "orders/s from the log into the broker's queues", Against: []peer{
		{"bare batch producer", theirs, ours / theirs},
		{"bare batch producer, until the broker confirms", bareBurst, burst / bareBurst},
		{"bare consumer; ours a lane", bareTaken, taken / bareTaken},
	}}
	r.add("orders fed, until the broker confirms", burst, "a second")
	r.add("orders received and acknowledged", taken, "a second")
	r.add("lowest and", rounds[0], "orders/s into the queues")
	r.add("highest round", rounds[len(rounds)-1], "orders/s into the queues")
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
func (c *counter) Feed(ctx context.Context, msgs []*queue.Message) (confirmed func() error) {
	asked := c.to.Feed(ctx, msgs)
	return func() error {
		err := asked()
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
}

// pace is how many messages a second a turn sent: until the broker had confirmed the
// last one, and until it had put that into its queue. A broker that is sent to as fast as
// it confirms falls behind with the latter, and a turn that ended there would leave its
// work to the next.
type pace struct{ confirmed, through float64 }

// paceOf is that of n messages, of which the last was confirmed so long after the first
// was sent, and the whole took so long.
func paceOf(n int, confirmed, whole time.Duration) pace {
	return pace{float64(n) / confirmed.Seconds(), float64(n) / whole.Seconds()}
}

// feed has the feeder bring n messages or a few more.
func (w *brokerWorld) feed(ctx context.Context, n int) (pace, error) {
	bound, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	w.counter.left, w.counter.done = n, cancel
	began := time.Now()
	if err := w.feeder.Run(bound); err != nil {
		return pace{}, err
	}
	if w.counter.left > 0 {
		return pace{}, errors.Join(ctx.Err(), fmt.Errorf("%d of %d messages were not fed within %v", w.counter.left, n, brokerWithin))
	}
	whole, err := w.settle(ctx, began)
	return paceOf(n-w.counter.left, w.counter.at.Sub(began), whole), err
}

// send has the bare producer send n messages.
func (w *brokerWorld) send(ctx context.Context, n int) (pace, error) {
	began := time.Now()
	took, err := w.producer.send(ctx, n, queueBatch, queueSenders)
	if err != nil {
		return pace{}, fmt.Errorf("bare producer: %w", err)
	}
	whole, err := w.settle(ctx, began)
	return paceOf(n, took, whole), err
}

// settle waits until the broker has all that it confirmed in its queues, and gives how
// long that is after began. A lane's status says when, and has more to do than that:
// what it takes where nothing is left to wait for is not counted.
func (w *brokerWorld) settle(ctx context.Context, began time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	if _, err := w.queue.Status(ctx, benchLane); err != nil {
		return 0, err
	}
	settled := time.Now()
	_, err := w.queue.Status(ctx, benchLane)
	return settled.Sub(began) - time.Since(settled), err
}

// production takes turns at sending; in every other round the bare producer is first.
func (w *brokerWorld) production(ctx context.Context, o *options) (ours, theirs []pace, err error) {
	for round := range o.rounds + 1 {
		var fed, sent pace
		if round%2 == 1 {
			sent, err = w.send(ctx, o.messages)
		}
		if err == nil {
			fed, err = w.feed(ctx, o.messages)
		}
		if err == nil && round%2 == 0 {
			sent, err = w.send(ctx, o.messages)
		}
		if err != nil {
			return nil, nil, err
		}
		if round == 0 {
			continue
		}
		ours, theirs = append(ours, fed), append(theirs, sent)
		fmt.Fprintf(o.out, "round %d  fed %8.0f/s, %8.0f/s into the queues; bare producer %8.0f/s, %8.0f/s\n", round, fed.confirmed, fed.through, sent.confirmed, sent.through)
	}
	return ours, theirs, nil
}

// each picks one figure of each round.
func each(of []pace, pick func(pace) float64) (all []float64) {
	for _, p := range of {
		all = append(all, pick(p))
	}
	return all
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
	if err := w.queue.Feed(ctx, []*queue.Message{{Claim: claim, Order: claim.Orders[0], Origin: w.log.End()}})(); err != nil {
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
