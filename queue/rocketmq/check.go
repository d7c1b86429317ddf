package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Found is what Check finds.
type Found struct {
	Brokers []string // the masters, as name=address
	Missing []string // topics that are not there, which Open and Lane create
	// Away are the name servers that do not answer, or know no broker, while others
	// do: a queue works without them.
	Away []string
}

// Check sees whether a queue with these options would work, and the lanes of these
// partners: every name server is asked, every broker's timer, and every topic that
// is there already. It creates and sends nothing and joins no group. The error is all
// that is wrong, each with its remedy; what is only away is ErrAway.
func Check(ctx context.Context, opts Options, partners ...string) (found Found, err error) {
	if err := opts.complete(); err != nil {
		return Found{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	w := newWire(func(frame) {})
	defer w.close()
	answers := make([]error, len(opts.NameServers))
	var asking sync.WaitGroup
	for i, addr := range opts.NameServers {
		asking.Go(func() {
			one := &cluster{wire: w, nameServers: []string{addr}, name: opts.Cluster}
			_, answers[i] = one.masters(ctx)
		})
	}
	asking.Wait()
	var failed error
	var good []string
	for i, addr := range opts.NameServers {
		switch err := answers[i]; {
		case err == nil:
			good = append(good, addr)
		case errors.Is(err, ErrAway) && slices.Contains(answers, nil):
			found.Away = append(found.Away, addr)
		default:
			failed = errors.Join(failed, err)
		}
	}
	if len(good) == 0 {
		return Found{}, failed
	}
	c := &cluster{wire: w, nameServers: good, name: opts.Cluster}
	masters, err := c.ready(ctx)
	failed = errors.Join(failed, err)
	for name, addr := range masters {
		found.Brokers = append(found.Brokers, name+"="+addr)
	}
	slices.Sort(found.Brokers)
	inspect := func(topic string, queues int) {
		err := c.enough(ctx, topic, queues)
		if errors.Is(err, errNoTopic) {
			found.Missing = append(found.Missing, topic)
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
	return found, failed
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
