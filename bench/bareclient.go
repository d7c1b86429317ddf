package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	mq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// bareProducer sends batches with the official client, and does nothing else.
type bareProducer struct {
	client mq.Producer
	topic  string
	body   []byte
}

func newBareProducer(nameServers []string, name, topic string, body []byte) (*bareProducer, error) {
	p, err := mq.NewProducer(
		producer.WithNsResolver(primitive.NewPassthroughResolver(nameServers)),
		producer.WithGroupName(name), producer.WithInstanceName(name+"-producer"),
	)
	if err != nil {
		return nil, err
	}
	return &bareProducer{client: p, topic: topic, body: body}, p.Start()
}

// send sends n messages, so many in a batch and so many batches at a time.
func (b *bareProducer) send(ctx context.Context, n, batch, senders int) (time.Duration, error) {
	began := time.Now()
	err := forAll(ctx, (n+batch-1)/batch, senders, func(i int) error {
		msgs := make([]*primitive.Message, min(batch, n-i*batch))
		for j := range msgs {
			msgs[j] = primitive.NewMessage(b.topic, b.body)
		}
		answer, err := b.client.SendSync(context.Background(), msgs...)
		if err == nil && answer.Status != primitive.SendOK {
			err = fmt.Errorf("the broker answers %v", answer.Status)
		}
		return err
	})
	return time.Since(began), err
}

// bareConsumer takes messages as the official client hands them over, and does
// nothing with them. It stands still while it is not its turn.
type bareConsumer struct {
	client mq.PushConsumer

	mu    sync.Mutex
	went  sync.Cond
	open  bool
	left  int // of the turn
	timed int // how many of them are
	began time.Time
	took  chan time.Duration
	body  []byte // of the message seen last
}

// Settings of the bare consumer: those with which it is fastest.
const (
	barePull      = 32   // the most that a broker gives at once
	bareHandlers  = 20   // the client's default
	bareThreshold = 1000 // messages of a queue that wait in memory; the client's default
)

func newBareConsumer(nameServers []string, group, topic string) (*bareConsumer, error) {
	b := &bareConsumer{took: make(chan time.Duration, 1)}
	b.went.L = &b.mu
	var err error
	b.client, err = mq.NewPushConsumer(
		consumer.WithNsResolver(primitive.NewPassthroughResolver(nameServers)),
		consumer.WithGroupName(group), consumer.WithInstance(group),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithPullBatchSize(barePull), consumer.WithConsumeMessageBatchMaxSize(barePull),
		consumer.WithConsumeGoroutineNums(bareHandlers), consumer.WithPullThresholdForQueue(bareThreshold),
	)
	if err == nil {
		err = b.client.Subscribe(topic, consumer.MessageSelector{}, b.take)
	}
	if err == nil {
		err = b.client.Start()
	}
	return b, err
}

// take lets a batch go when it is this consumer's turn.
func (b *bareConsumer) take(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.left <= 0 && !b.open {
		b.went.Wait()
	}
	if b.open {
		return consumer.ConsumeSuccess, nil
	}
	b.body = msgs[0].Body
	before := b.left
	b.left -= len(msgs)
	if before > b.timed && b.left <= b.timed {
		b.began, b.timed = time.Now(), b.left
	}
	if b.left <= 0 {
		b.took <- time.Since(b.began)
	}
	return consumer.ConsumeSuccess, nil
}

// consume takes n messages, and times all but the first so many. It gives how many
// a second those were.
func (b *bareConsumer) consume(ctx context.Context, n, untimed int) (rate float64, err error) {
	b.mu.Lock()
	b.left, b.timed, b.began = n, n-untimed, time.Now()
	b.went.Broadcast()
	b.mu.Unlock()
	select {
	case took := <-b.took:
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(b.timed-b.left) / took.Seconds(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// close lets the batches that wait go and ends the consumer.
func (b *bareConsumer) close() error {
	b.mu.Lock()
	b.open = true
	b.went.Broadcast()
	b.mu.Unlock()
	return b.client.Shutdown()
}

// removeTopics removes all topics whose names begin with a name.
func removeTopics(nameServers []string, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(nameServers)))
	if err != nil {
		return err
	}
	list, err := a.FetchAllTopicList(ctx)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	for _, topic := range list.TopicList {
		if strings.HasPrefix(strings.TrimPrefix(topic, "%RETRY%"), name) {
			err = errors.Join(err, a.DeleteTopic(ctx, admin.WithTopicDelete(topic), admin.WithNameSrvAddr(nameServers)))
		}
	}
	return errors.Join(err, a.Close())
}
