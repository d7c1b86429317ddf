package rocketmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// regroupEvery is how often a lane tells the brokers that it is there and asks
	// who else is. They forget it after two minutes of silence.
	regroupEvery = 5 * time.Second
	// grace is what the member that loses a queue has to commit its place before
	// the one that gains it asks for it.
	grace       = 300 * time.Millisecond
	askTimeout  = 3 * time.Second
	shardsFresh = 30 * time.Second
)

// attend keeps the lane a member of its group, and its share of the queues up to
// date, until ctx ends. While the brokers cannot be asked the lane keeps what it
// has.
func (l *Lane) attend(ctx context.Context) {
	trouble := newTrouble(l.logger, "cannot ask who shares the lane; going on with the queues that it has")
	for {
		shares, alone, err := l.shares(ctx)
		if err != nil {
			if !trouble.pause(ctx, err) {
				return
			}
			continue
		}
		trouble.over()
		l.serve(ctx, shares, alone)
		timer := time.NewTimer(regroupEvery)
		select {
		case <-timer.C:
		case <-l.regrouped:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// regroup has attend look again.
func (l *Lane) regroup() {
	select {
	case l.regrouped <- struct{}{}:
	default:
	}
}

// allShards lists the queues of the lane's topics. A broker that is down is not
// in the route any more; what was known of it is kept, for it comes back.
func (l *Lane) allShards(ctx context.Context) ([kinds][]shard, error) {
	l.mu.Lock()
	known, fresh := l.shards, time.Since(l.shardsAt) < shardsFresh
	l.mu.Unlock()
	if fresh {
		return known, nil
	}
	for k, topic := range l.topics.of {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		shards, err := l.queue.cluster.shards(one, topic, permRead)
		cancel()
		switch {
		case err == nil && len(shards) >= len(known[k]):
			known[k] = shards
		case len(known[k]) > 0:
			continue
		case err != nil:
			return known, err
		default:
			return known, fmt.Errorf("topic %s has no queue that can be read", topic)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shards, l.shardsAt = known, time.Now()
	return known, nil
}

// shares tells the brokers that the lane is there, and works out which queues are
// its own. Every member does so by the same rule from the same lists.
func (l *Lane) shares(ctx context.Context) (mine []stream, alone bool, err error) {
	if err := l.queue.provide(ctx, l.topics); err != nil {
		return nil, false, err
	}
	all, err := l.allShards(ctx)
	if err != nil {
		return nil, false, err
	}
	members, err := l.announce(ctx, all)
	if err != nil {
		return nil, false, err
	}
	i := slices.Index(members, l.queue.instance)
	if i < 0 {
		return nil, false, errors.New("the brokers have not taken the lane into its group yet")
	}
	for k := range kinds {
		from, to := share(len(all[k]), len(members), i)
		for _, s := range all[k][from:to] {
			mine = append(mine, stream{shard: s, kind: k})
		}
	}
	return mine, len(members) == 1, nil
}

// share is the part of n queues that the i-th of m members has.
func share(n, m, i int) (from, to int) {
	return n * i / m, n * (i + 1) / m
}

// heartbeat is what brokers want to hear of a member.
type heartbeat struct {
	Client    string     `json:"clientID"`
	Producers []struct{} `json:"producerDataSet"`
	Consumers []consumer `json:"consumerDataSet"`
}

type consumer struct {
	Group    string         `json:"groupName"`
	Type     string         `json:"consumeType"`
	Model    string         `json:"messageModel"`
	Where    string         `json:"consumeFromWhere"`
	Topics   []subscription `json:"subscriptionDataSet"`
	UnitMode bool           `json:"unitMode"`
}

type subscription struct {
	Topic      string   `json:"topic"`
	Sub        string   `json:"subString"`
	Tags       []string `json:"tagsSet"`
	Codes      []int    `json:"codeSet"`
	Version    int64    `json:"subVersion"`
	Expression string   `json:"expressionType"`
	Filter     bool     `json:"classFilterMode"`
}

// announce sends a heartbeat to each broker of the lane and gives the members of
// its group, sorted.
func (l *Lane) announce(ctx context.Context, all [kinds][]shard) ([]string, error) {
	c := consumer{Group: l.topics.group, Type: "CONSUME_ACTIVELY", Model: "CLUSTERING", Where: "CONSUME_FROM_FIRST_OFFSET"}
	for _, topic := range l.topics.of {
		c.Topics = append(c.Topics, subscription{Topic: topic, Sub: "*", Tags: []string{}, Codes: []int{}, Expression: "TAG"})
	}
	body, err := json.Marshal(heartbeat{Client: l.queue.instance, Producers: []struct{}{}, Consumers: []consumer{c}})
	if err != nil {
		return nil, err
	}
	var members []string
	var failed error
	for _, addr := range brokers(all) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// A heartbeat that is under way when the lane closes is waited for. The broker
		// might otherwise see it after the leave, and keep a share of the queues for a
		// member that is gone, for two minutes.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		_, err := l.queue.cluster.ask(one, addr, reqHeartbeat, nil, body)
		if err == nil && members == nil {
			members, err = l.members(one, addr)
		}
		cancel()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("broker %w", err))
		}
	}
	if members == nil {
		return nil, failed
	}
	return members, nil
}

// members asks a broker who is in the lane's group.
func (l *Lane) members(ctx context.Context, addr string) ([]string, error) {
	a, err := l.queue.cluster.ask(ctx, addr, reqMembers, map[string]string{"consumerGroup": l.topics.group}, nil)
	if err != nil {
		return nil, err
	}
	var list struct {
		IDs []string `json:"consumerIdList"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return nil, fmt.Errorf("%s: members of %s: %w: %w", addr, l.topics.group, errNotRemoting, err)
	}
	slices.Sort(list.IDs)
	return slices.Compact(list.IDs), nil
}

// brokers lists the addresses of the brokers that have queues of a lane.
func brokers(all [kinds][]shard) (addrs []string) {
	for _, shards := range all {
		for _, s := range shards {
			if !slices.Contains(addrs, s.addr) {
				addrs = append(addrs, s.addr)
			}
		}
	}
	return addrs
}

// serve reads these queues and no others.
func (l *Lane) serve(ctx context.Context, mine []stream, alone bool) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	wanted := make(map[shard]kind, len(mine))
	for i := range mine {
		wanted[mine[i].shard] = mine[i].kind
	}
	var lost []*stream
	for s, one := range l.streams {
		if _, ok := wanted[s]; !ok {
			l.drop(one)
			lost = append(lost, one)
		}
	}
	for s, k := range wanted {
		if l.streams[s] != nil {
			continue
		}
		run, cancel := context.WithCancel(ctx)
		one := &stream{lane: l, shard: s, kind: k, cancel: cancel, room: make(chan struct{}, 1), more: true, dryAt: time.Now()}
		if !alone {
			one.grace = grace
		}
		l.add(one)
		l.work.Go(func() { one.run(run) })
	}
	l.mu.Unlock()
	if len(lost) > 0 {
		l.logger.Info("queues of the lane go to another member", "queues", len(lost))
		l.write(ctx, lost)
	}
}

// add has a queue be one of the lane's. It requires l.mu.
func (l *Lane) add(s *stream) {
	l.streams[s.shard] = s
	if s.kind == firsts {
		l.fresh = append(l.fresh, s)
	}
}

// drop gives a queue up: what is held of it is let go by whoever has it next. It
// requires l.mu.
func (l *Lane) drop(s *stream) {
	s.lost = true
	s.cancel()
	s.buffer = nil
	delete(l.streams, s.shard)
	l.fresh = slices.DeleteFunc(l.fresh, func(one *stream) bool { return one == s })
}

// leave tells the brokers that the lane is no member any more.
func (l *Lane) leave(ctx context.Context) {
	l.mu.Lock()
	all := l.shards
	l.mu.Unlock()
	for _, addr := range brokers(all) {
		_, err := l.queue.cluster.ask(ctx, addr, reqUnregister, map[string]string{"clientID": l.queue.instance, "consumerGroup": l.topics.group}, nil)
		if err != nil {
			l.logger.Debug("cannot take leave of a broker; it will notice", "err", err)
		}
	}
}
