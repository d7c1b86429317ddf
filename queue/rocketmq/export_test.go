package rocketmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"google.golang.org/protobuf/encoding/protowire"

	"manna/queue"
)

const (
	reqUpdateBroker      = 25
	reqAllTopics         = 206
	reqRemoveFromBroker  = 215
	reqRemoveFromNameSrv = 216
)

// NewerMessage is the body of a message of a release to come.
func NewerMessage() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, fVersion, protowire.VarintType), formatVersion+1)
	return append(b, "whatever that release writes"...)
}

// SendRaw puts a body into a topic of the group, as somebody else might.
func (q *Queue) SendRaw(ctx context.Context, what, partner string, body []byte) error {
	topic, err := topicOf(q.opts.Group, what, partner)
	if err != nil {
		return err
	}
	return q.sender.send(ctx, fails, topic, primitive.NewMessage(topic, body))
}

// SendLater puts a message into a lane's topic of deferrals as if the timer had
// given it back just now.
func (q *Queue) SendLater(ctx context.Context, m *queue.Message, due time.Time) error {
	t, err := topicsOf(q.opts.Group, m.Order.Partner)
	if err != nil {
		return err
	}
	out, err := q.outgoing(m, due)
	if err != nil {
		return err
	}
	return q.sender.send(ctx, fails, t.of[later], out)
}

// SetPlaces writes a place into every queue of a lane's first deliveries.
func (q *Queue) SetPlaces(ctx context.Context, partner string, at int64) error {
	t, err := topicsOf(q.opts.Group, partner)
	if err != nil {
		return err
	}
	shards, err := q.cluster.shards(ctx, t.of[firsts], permRead)
	for _, s := range shards {
		err = errors.Join(err, q.cluster.commit(ctx, t.group, s, at))
	}
	return err
}

// Timing is how many messages of a lane are in the brokers' timers.
func (q *Queue) Timing(ctx context.Context, partner string) (n int64, err error) {
	t, err := topicsOf(q.opts.Group, partner)
	if err != nil {
		return 0, err
	}
	masters, err := q.cluster.masters(ctx)
	for _, addr := range masters {
		one, failed := q.cluster.timing(ctx, addr, t.of[later])
		n, err = n+one, errors.Join(err, failed)
	}
	return n, err
}

// Aside reads what has been put aside for a partner: each body with the reason.
func (q *Queue) Aside(ctx context.Context, partner string) (map[string]string, error) {
	t, err := topicsOf(q.opts.Group, partner)
	if err != nil {
		return nil, err
	}
	shards, err := q.cluster.shards(ctx, t.aside, permRead)
	if err != nil {
		return nil, err
	}
	found := make(map[string]string)
	for _, s := range shards {
		if err := q.cluster.settle(ctx, s.addr); err != nil {
			return nil, err
		}
		p, err := q.cluster.pull(ctx, t.aside+"-test", s, 0, pullLimit, 0)
		if err != nil {
			return nil, err
		}
		for _, m := range p.msgs {
			if m.property(propFrom) == "" {
				return nil, errors.New("a message aside does not say where it is from")
			}
			found[string(m.body)] = m.property(propWhy)
		}
	}
	return found, nil
}

// SetBroker changes a setting of all brokers until they are started anew.
func SetBroker(ctx context.Context, nameServer, name, value string) error {
	return withCluster(nameServer, func(c *cluster) error {
		masters, err := c.masters(ctx)
		for _, addr := range masters {
			_, failed := c.ask(ctx, addr, reqUpdateBroker, nil, []byte(name+"="+value))
			err = errors.Join(err, failed)
		}
		return err
	})
}

// ChangeTopic gives a topic other queues and rights, as mqadmin does, and returns when
// the name server knows.
func ChangeTopic(ctx context.Context, nameServer, topic string, queues, perm int) error {
	return withCluster(nameServer, func(c *cluster) error {
		masters, err := c.masters(ctx)
		for _, addr := range masters {
			_, failed := c.ask(ctx, addr, reqCreateTopic, map[string]string{
				"topic": topic, "defaultTopic": topic, "readQueueNums": strconv.Itoa(queues), "writeQueueNums": strconv.Itoa(queues),
				"perm": strconv.Itoa(perm), "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
			}, nil)
			err = errors.Join(err, failed)
		}
		for err == nil {
			var r routeData
			if r, err = c.ofRoute(ctx, topic); err == nil && len(r.Queues) > 0 && r.Queues[0].Write == queues && r.Queues[0].Perm == perm {
				return nil
			}
			select {
			case <-time.After(createPoll):
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return err
	})
}

// RemoveTopics removes all topics whose names begin with prefix.
func RemoveTopics(ctx context.Context, nameServer, prefix string) error {
	return withCluster(nameServer, func(c *cluster) error {
		masters, err := c.masters(ctx)
		if err != nil {
			return err
		}
		a, err := c.ask(ctx, nameServer, reqAllTopics, nil, nil)
		if err != nil {
			return err
		}
		var list struct {
			Topics []string `json:"topicList"`
		}
		if err := json.Unmarshal(a.body, &list); err != nil {
			return err
		}
		var failed error
		for _, topic := range list.Topics {
			if !strings.HasPrefix(strings.TrimPrefix(topic, "%RETRY%"), prefix) {
				continue
			}
			for _, addr := range masters {
				_, err := c.ask(ctx, addr, reqRemoveFromBroker, map[string]string{"topic": topic}, nil)
				failed = errors.Join(failed, err)
			}
			_, err := c.ask(ctx, nameServer, reqRemoveFromNameSrv, map[string]string{"topic": topic}, nil)
			failed = errors.Join(failed, err)
		}
		return failed
	})
}

func withCluster(nameServer string, do func(*cluster) error) error {
	w := newWire(func(frame) {})
	defer w.close()
	if err := do(&cluster{wire: w, nameServers: []string{nameServer}}); err != nil {
		return fmt.Errorf("name server %s: %w", nameServer, err)
	}
	return nil
}
