package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Check sees whether a queue with these options would work, and the lanes of these
// partners: every name server is asked, every broker's timer, and every topic that
// is there already. It creates and sends nothing and joins no group. It returns the
// brokers that it found, as name=address, and all that is wrong, each with its
// remedy; what is only away is ErrAway.
func Check(ctx context.Context, opts Options, partners ...string) (brokers []string, err error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	w := newWire(func(frame) {})
	defer w.close()
	var failed error
	var good []string
	for _, addr := range opts.NameServers {
		one := &cluster{wire: w, nameServers: []string{addr}, name: opts.Cluster}
		if _, err := one.masters(ctx); err != nil {
			failed = errors.Join(failed, err)
		} else {
			good = append(good, addr)
		}
	}
	if len(good) == 0 {
		return nil, failed
	}
	c := &cluster{wire: w, nameServers: good, name: opts.Cluster}
	masters, err := c.ready(ctx)
	failed = errors.Join(failed, err)
	for name, addr := range masters {
		brokers = append(brokers, name+"="+addr)
	}
	slices.Sort(brokers)
	failed = errors.Join(failed, c.inspect(ctx, marksOf(opts.Group), 1))
	for _, partner := range partners {
		t, err := topicsOf(opts.Group, partner)
		failed = errors.Join(failed, err)
		for _, topic := range t.of {
			if err == nil {
				failed = errors.Join(failed, c.inspect(ctx, topic, opts.Queues))
			}
		}
	}
	return brokers, failed
}

// ready sees that the masters answer and have timers, and lists them.
func (c *cluster) ready(ctx context.Context) (map[string]string, error) {
	masters, err := c.masters(ctx)
	if err != nil {
		return nil, err
	}
	var failed error
	for name, addr := range masters {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := c.timerAt(one, addr)
		cancel()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("broker %s: %w", name, err))
		}
	}
	return masters, failed
}

// inspect sees whether a topic has as many queues as it should, if it is there.
func (c *cluster) inspect(ctx context.Context, topic string, queues int) error {
	err := c.enough(ctx, topic, queues)
	if errors.Is(err, errNoTopic) {
		return nil
	}
	return err
}
