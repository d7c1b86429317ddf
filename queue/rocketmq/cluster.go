package rocketmq

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// everyBrokersTopic is on every broker, so its route lists them.
const everyBrokersTopic = "SELF_TEST_TOPIC"

// masterID is the key of a broker's master among its addresses.
const masterID = "0"

const (
	permWrite = 2
	permRead  = 4
)

// cluster asks name servers and brokers. It is safe for concurrent use.
type cluster struct {
	wire        *wire
	nameServers []string
	name        string // which cluster; empty: the only one
}

// shard is one queue of a topic.
type shard struct {
	topic  string
	broker string
	addr   string
	id     int
}

func (s shard) String() string { return fmt.Sprintf("%s/%s/%d", s.topic, s.broker, s.id) }

// key identifies a shard whatever its broker's address is.
func (s shard) key() shardKey { return shardKey{s.topic, s.broker, s.id} }

type shardKey struct {
	topic  string
	broker string
	id     int
}

// compare orders shards as every member of a group does.
func (s shard) compare(t shard) int {
	if c := strings.Compare(s.broker, t.broker); c != 0 {
		return c
	}
	return s.id - t.id
}

var (
	// errNoTopic: no name server knows such a topic.
	errNoTopic = errors.New("no such topic")
	// errFewQueues: a topic was made with too few queues.
	errFewQueues = errors.New("it was made with too few")
	// errClosedTopic: a topic's own rights do not let it be read and written.
	errClosedTopic = errors.New("it is closed")
)

// isLasting reports whether a topic cannot be used until a person changes it or its
// rights. Of what the brokers say of themselves, as while one is taken out of
// service, nothing is lasting.
func isLasting(err error) bool {
	return errors.Is(err, errFewQueues) || errors.Is(err, errClosedTopic) || refusal(err) == ansNoPermission
}

// answerError is a server's refusal.
type answerError struct {
	addr   string
	code   int
	remark string
}

func (e *answerError) Error() string {
	remark, _, _ := strings.Cut(e.remark, "\n")
	return fmt.Sprintf("%s answers %d: %s", e.addr, e.code, remark)
}

// ask sends a request whose answer must be that it was done.
func (c *cluster) ask(ctx context.Context, addr string, code int, fields map[string]string, body []byte) (frame, error) {
	a, err := c.wire.call(ctx, addr, code, fields, body)
	if err == nil && a.Code != ansDone {
		err = &answerError{addr, a.Code, a.Remark}
	}
	return a, err
}

// refusal gives the code of a server's refusal; 0 where err is none.
func refusal(err error) int {
	var a *answerError
	if errors.As(err, &a) {
		return a.code
	}
	return 0
}

// routeData is what a name server says about a topic.
type routeData struct {
	Brokers []struct {
		Name    string            `json:"brokerName"`
		Cluster string            `json:"cluster"`
		Addrs   map[string]string `json:"brokerAddrs"`
	} `json:"brokerDatas"`
	Queues []struct {
		Broker string `json:"brokerName"`
		Read   int    `json:"readQueueNums"`
		Write  int    `json:"writeQueueNums"`
		Perm   int    `json:"perm"`
	} `json:"queueDatas"`
}

// ofRoute asks the name servers, one after the other, until one knows. It is
// errNoTopic where none does of those that answer: one that was started again knows
// nothing until the brokers have told it.
func (c *cluster) ofRoute(ctx context.Context, topic string) (routeData, error) {
	var failed error
	unknown := false
	for _, addr := range c.nameServers {
		var r routeData
		one, cancel := context.WithTimeout(ctx, dialTimeout)
		a, err := c.ask(one, addr, reqRoute, map[string]string{"topic": topic, "acceptStandardJsonOnly": "true"}, nil)
		cancel()
		switch {
		case refusal(err) == ansTopicUnknown:
			unknown = true
			continue
		case err == nil:
			if err = json.Unmarshal(a.body, &r); err == nil {
				return r, nil
			}
			err = fmt.Errorf("%s: route of %s: %w: %w", addr, topic, errNotRemoting, err)
		}
		failed = errors.Join(failed, fmt.Errorf("name server %w", err))
	}
	if unknown {
		return routeData{}, errNoTopic
	}
	return routeData{}, fmt.Errorf("%w; name those that are there: queue: {nameservers: [host:9876]}", failed)
}

// masters lists the masters of the cluster's brokers by their names.
func (c *cluster) masters(ctx context.Context) (map[string]string, error) {
	r, err := c.ofRoute(ctx, everyBrokersTopic)
	if errors.Is(err, errNoTopic) {
		return nil, fmt.Errorf("%w: name servers %v know no broker: start one, or name other name servers", ErrAway, c.nameServers)
	}
	if err != nil {
		return nil, err
	}
	masters, names := make(map[string]string), []string(nil)
	for _, b := range r.Brokers {
		if !slices.Contains(names, b.Cluster) {
			names = append(names, b.Cluster)
		}
		if addr := b.Addrs[masterID]; addr != "" && (c.name == "" || c.name == b.Cluster) {
			masters[b.Name] = addr
		}
	}
	switch {
	case c.name == "" && len(names) > 1:
		return nil, fmt.Errorf("name servers %v know the clusters %v: say which", c.nameServers, names)
	case c.name != "" && !slices.Contains(names, c.name):
		return nil, fmt.Errorf("%w: name servers %v know no broker of cluster %q, but the clusters %v: start one, or name one of these", ErrAway, c.nameServers, c.name, names)
	case len(masters) == 0:
		return nil, fmt.Errorf("%w: name servers %v know no master among the brokers of %v: start one", ErrAway, c.nameServers, names)
	}
	return masters, nil
}

// shards lists a topic's queues that can be read, or written, in the order that
// all share.
func (c *cluster) shards(ctx context.Context, topic string, perm int) ([]shard, error) {
	r, err := c.ofRoute(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	var all []shard
	for _, q := range r.Queues {
		if q.Perm&perm == 0 {
			continue
		}
		n := q.Read
		if perm == permWrite {
			n = q.Write
		}
		for _, b := range r.Brokers {
			if addr := b.Addrs[masterID]; b.Name == q.Broker && addr != "" {
				for id := range n {
					all = append(all, shard{topic: topic, broker: b.Name, addr: addr, id: id})
				}
			}
		}
	}
	slices.SortFunc(all, shard.compare)
	return all, nil
}

// createPoll is how often a new topic is looked for until its name server knows
// it.
const createPoll = 10 * time.Millisecond

func (s shard) fields(more ...string) map[string]string {
	f := map[string]string{"topic": s.topic, "queueId": strconv.Itoa(s.id)}
	for i := 0; i+1 < len(more); i += 2 {
		f[more[i]] = more[i+1]
	}
	return f
}

func offsetOf(a frame) (int64, error) {
	n, err := strconv.ParseInt(a.Fields["offset"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: offset %q", errNotRemoting, a.Fields["offset"])
	}
	return n, nil
}

func (c *cluster) offset(ctx context.Context, s shard, code int, more ...string) (int64, error) {
	a, err := c.ask(ctx, s.addr, code, s.fields(more...), nil)
	if err != nil {
		return 0, fmt.Errorf("%v: %w", s, err)
	}
	return offsetOf(a)
}

// end is the offset that the next message of a queue gets, by what the broker has
// put into its queues: see settle.
func (c *cluster) end(ctx context.Context, s shard) (int64, error) {
	return c.offset(ctx, s, reqMaxOffset)
}

// settlePoll is how often a broker is asked whether it has caught up with itself.
const settlePoll = 2 * time.Millisecond

// settle waits until whatever a broker had stored when it was called is in the
// queues: it puts messages there a moment after it has confirmed them.
func (c *cluster) settle(ctx context.Context, addr string) error {
	poll := time.NewTicker(settlePoll)
	defer poll.Stop()
	goal := int64(-1)
	for {
		stored, behind, err := c.progress(ctx, addr)
		if err != nil {
			return err
		}
		if goal < 0 {
			goal = stored
		}
		if stored-behind >= goal {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: its queues are %d bytes behind what it has stored: %w", addr, behind, ctx.Err())
		}
	}
}

// progress is how many bytes a broker has stored, and how many of them are not in
// the queues yet.
func (c *cluster) progress(ctx context.Context, addr string) (stored, behind int64, err error) {
	a, err := c.ask(ctx, addr, reqRuntimeInfo, nil, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("runtime info: %w", err)
	}
	var info struct {
		Table map[string]string `json:"table"`
	}
	if err = json.Unmarshal(a.body, &info); err == nil {
		stored, err = strconv.ParseInt(info.Table["commitLogMaxOffset"], 10, 64)
	}
	if err == nil {
		behind, err = strconv.ParseInt(info.Table["dispatchBehindBytes"], 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: runtime info: %w: %w", addr, errNotRemoting, err)
	}
	return stored, behind, nil
}

// begin is the offset of the oldest message that the broker still has.
func (c *cluster) begin(ctx context.Context, s shard) (int64, error) {
	return c.offset(ctx, s, reqMinOffset)
}

// seek finds the first message stored at t or later, about.
func (c *cluster) seek(ctx context.Context, s shard, t time.Time) (int64, error) {
	return c.offset(ctx, s, reqSearchOffset, "timestamp", strconv.FormatInt(t.UnixMilli(), 10))
}

// place is where a group goes on in a queue. A group that has none begins at the
// queue's begin.
func (c *cluster) place(ctx context.Context, group string, s shard) (int64, error) {
	at, err := c.offset(ctx, s, reqCommitted, "consumerGroup", group)
	if refusal(err) == ansNotFound {
		return c.begin(ctx, s)
	}
	return at, err
}

// commit writes a group's place in a queue down.
func (c *cluster) commit(ctx context.Context, group string, s shard, at int64) error {
	_, err := c.ask(ctx, s.addr, reqCommit, s.fields("consumerGroup", group, "commitOffset", strconv.FormatInt(at, 10)), nil)
	if err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	return nil
}

// timerAt is how far a broker's timer has come: what is due before it has been
// released.
func (c *cluster) timerAt(ctx context.Context, addr string) (time.Time, error) {
	a, err := c.ask(ctx, addr, reqTimerCheckpoint, nil, nil)
	if refusal(err) != 0 {
		return time.Time{}, fmt.Errorf("its timer is off: %w: set timerWheelEnable=true in the broker's configuration", err)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("timer: %w", err)
	}
	if len(a.body) < 8 {
		return time.Time{}, fmt.Errorf("%s: %w: a timer checkpoint of %d bytes", addr, errNotRemoting, len(a.body))
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(a.body))), nil
}

// timing is how many messages for a topic wait in a broker's timer.
func (c *cluster) timing(ctx context.Context, addr, topic string) (int64, error) {
	a, err := c.ask(ctx, addr, reqTimerCounts, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("timer: %w", err)
	}
	var counts struct {
		Timing map[string]struct {
			Count int64 `json:"count"`
		} `json:"timingCount"`
	}
	if err := json.Unmarshal(a.body, &counts); err != nil {
		return 0, fmt.Errorf("%s: timer counts: %w: %w", addr, errNotRemoting, err)
	}
	return max(counts.Timing[topic].Count, 0), nil
}
