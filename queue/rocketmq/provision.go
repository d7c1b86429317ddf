package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
)

// standing is what is known of topics.
type standing uint8

const (
	unseen   standing = iota // nothing
	present                  // they are there
	doubtful                 // they were, and something has failed: they are used while nobody can say more
	missing                  // they were, and a server knows nothing of one
)

// provision sees to it that topics are there before they are used, and that they are
// made anew where a broker has lost them with its store. Topics that are provided
// together go by the name of the first. It is safe for concurrent use.
type provision struct {
	cluster *cluster
	logger  *slog.Logger

	making sync.Mutex // held while topics are looked for and created

	mu    sync.Mutex
	known map[string]standing
}

func newProvision(c *cluster, l *slog.Logger) *provision {
	return &provision{cluster: c, logger: l, known: make(map[string]standing)}
}

func (p *provision) standing(topic string) standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[topic]
}

// settle notes what has become of topics, unless more has been heard of them since.
func (p *provision) settle(topic string, was, is standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[topic] == was {
		p.known[topic] = is
	}
}

// provide sees to it that topics are there with so many queues each. It asks nobody
// while nothing speaks against it, and is content with topics that were there where
// nobody can be asked: their brokers may be well while all name servers are away.
func (p *provision) provide(ctx context.Context, queues int, topics ...string) error {
	if p.standing(topics[0]) == present {
		return nil
	}
	p.making.Lock()
	defer p.making.Unlock()
	was := p.standing(topics[0])
	if was == present {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	see := p.cluster.provide
	if was == missing {
		see = p.cluster.complete
	}
	for _, topic := range topics {
		made, err := see(within, topic, queues)
		if was != unseen && len(made) > 0 {
			p.logger.Error("a topic was gone and is made anew: the broker has lost its store, or somebody has removed the topic; the reconciler finds which orders were in it and brings them back (manna reconcile)",
				"topic", topic, "brokers", strings.Join(made, ", "))
		}
		if was != unseen && errors.Is(err, errFewQueues) {
			continue // it had enough: a broker is away
		}
		if err != nil && was == doubtful && ctx.Err() == nil && !isLasting(err) && !isGone(err) {
			break // the next failure is a new doubt
		}
		if err != nil {
			return err
		}
	}
	p.settle(topics[0], was, present)
	return nil
}

// doubt has topics looked at again before they are used again.
func (p *provision) doubt(topic string) { p.settle(topic, present, doubtful) }

// missed takes in an error of whoever used topics. It reports whether that says that
// one of them is gone, and has them made anew then.
func (p *provision) missed(topic string, err error) (gone bool) {
	if !isGone(err) {
		return false
	}
	p.settle(topic, present, missing)
	p.settle(topic, doubtful, missing)
	return true
}
