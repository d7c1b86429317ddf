package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// isGone reports whether a server knows nothing of a topic.
func isGone(err error) bool {
	return errors.Is(err, errNoTopic) || refusal(err) == ansTopicUnknown
}

// provide sees to it that a topic is there and has at least so many queues. One
// that is missing is created on every broker; it says on which.
func (c *cluster) provide(ctx context.Context, topic string, queues int) (made []string, err error) {
	err = c.enough(ctx, topic, queues)
	if !errors.Is(err, errNoTopic) {
		return nil, err
	}
	return c.complete(ctx, topic, queues)
}

// complete creates a topic on the brokers that do not have it, and says on which. It
// asks the brokers: name servers remember for a while what one had whose store is gone.
func (c *cluster) complete(ctx context.Context, topic string, queues int) (made []string, err error) {
	r, err := c.ofRoute(ctx, topic)
	if err != nil && !errors.Is(err, errNoTopic) {
		return nil, err
	}
	wide := queues
	for _, q := range r.Queues {
		wide = max(wide, q.Read, q.Write) // somebody may have given it more
	}
	masters, err := c.masters(ctx)
	if err != nil {
		return nil, err
	}
	for name, addr := range masters {
		_, err := c.ask(ctx, addr, reqTopicConfig, map[string]string{"topic": topic}, nil)
		if refusal(err) == ansTopicUnknown {
			err = c.create(ctx, addr, topic, wide)
			made = append(made, name)
		}
		if err != nil {
			return made, fmt.Errorf("topic %s on broker %s: %w", topic, name, err)
		}
	}
	slices.Sort(made)
	if err := c.appear(ctx, topic); err != nil {
		return made, err
	}
	return made, c.enough(ctx, topic, queues)
}

// enough sees that a topic has at least so many queues.
func (c *cluster) enough(ctx context.Context, topic string, queues int) error {
	readable, err := c.shards(ctx, topic, permRead)
	if err != nil {
		return err
	}
	writable, err := c.shards(ctx, topic, permWrite)
	if err != nil {
		return err
	}
	n := min(len(readable), len(writable))
	if n >= queues {
		return nil
	}
	err = fmt.Errorf("topic %s has %d queues that can be read and written, fewer than the %d asked for: %w", topic, n, queues, c.small(ctx, topic, queues))
	if errors.Is(err, errFewQueues) {
		err = fmt.Errorf("%w: give it more (mqadmin updateTopic -t %s -r %d -w %d), or ask for fewer (queue: {queues: %d})", err, topic, queues, queues, max(n, 1))
	}
	return err
}

// small tells why a topic has too few queues that can be used: by itself, or because
// brokers are closed, which then shows in the topic that all of them have.
func (c *cluster) small(ctx context.Context, topic string, queues int) error {
	r, err := c.ofRoute(ctx, topic)
	if err != nil {
		return err
	}
	all, err := c.ofRoute(ctx, everyBrokersTopic)
	if err != nil {
		return err
	}
	const both = permRead | permWrite
	open := make(map[string]bool)
	for _, q := range all.Queues {
		open[q.Broker] = q.Perm&both == both
	}
	made := 0
	for _, q := range r.Queues {
		if q.Perm&both != both && open[q.Broker] {
			return fmt.Errorf("%w: on broker %s its perm is %d; open it (mqadmin updateTopicPerm -t %s -p %d)", errClosedTopic, q.Broker, q.Perm, topic, both)
		}
		made += min(q.Read, q.Write)
	}
	if made < queues {
		return errFewQueues
	}
	return errors.New("brokers are closed to reading or writing just now")
}

func (c *cluster) create(ctx context.Context, addr, topic string, queues int) error {
	_, err := c.ask(ctx, addr, reqCreateTopic, map[string]string{
		"topic": topic, "defaultTopic": topic, "readQueueNums": strconv.Itoa(queues), "writeQueueNums": strconv.Itoa(queues),
		"perm": strconv.Itoa(permRead | permWrite), "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
	}, nil)
	return err
}

// appear waits until the name server knows a topic that has been created.
func (c *cluster) appear(ctx context.Context, topic string) error {
	poll := time.NewTicker(createPoll)
	defer poll.Stop()
	for {
		if _, err := c.shards(ctx, topic, permRead); !errors.Is(err, errNoTopic) {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("topic %s is on its broker, and the name server does not know it yet: %w", topic, ctx.Err())
		}
	}
}
