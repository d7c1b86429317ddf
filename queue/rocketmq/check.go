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
// brokers that it found, as name=address, the topics that are not there, which Open
// and Lane create, and all that is wrong, each with its remedy; what is only away is
// ErrAway.
func Check(ctx context.Context, opts Options, partners ...string) (brokers, missing []string, err error) {
	if err := opts.complete(); err != nil {
		return nil, nil, err
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
		return nil, nil, failed
	}
	c := &cluster{wire: w, nameServers: good, name: opts.Cluster}
	masters, err := c.ready(ctx)
	failed = errors.Join(failed, err)
	for name, addr := range masters {
		brokers = append(brokers, name+"="+addr)
	}
	slices.Sort(brokers)
	inspect := func(topic string, queues int) {
		err := c.enough(ctx, topic, queues)
		if errors.Is(err, errNoTopic) {
			missing = append(missing, topic)
			return
		}
		failed = errors.Join(failed, err)
	}
	inspect(marksOf(opts.Group), 1)
	for _, partner := range partners {
		t, err := topicsOf(opts.Group, partner)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, topic := range t.of {
			inspect(topic, opts.Queues)
		}
	}
	return brokers, missing, failed
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
