package rocketmq

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"manna/breaker"
	"manna/queue"
)

// answers is a producer whose broker answers as told.
type answers struct {
	client.Producer // of which nothing else is called
	mu              sync.Mutex
	status          primitive.SendStatus
	err             error
	sending         chan struct{} // a message for each send that has begun, if it is not nil
	go_             chan struct{} // each send waits for one, if it is not nil
	brokers         []string      // to which messages went
	topics          []string      // in which they were put
}

// SendSync implements client.Producer.
func (a *answers) SendSync(_ context.Context, msgs ...*primitive.Message) (*primitive.SendResult, error) {
	a.mu.Lock()
	a.brokers, a.topics = append(a.brokers, msgs[0].Queue.BrokerName), append(a.topics, msgs[0].Topic)
	a.mu.Unlock()
	if a.sending != nil {
		a.sending <- struct{}{}
		<-a.go_
	}
	if a.err != nil {
		return nil, a.err
	}
	return &primitive.SendResult{Status: a.status}, nil
}

// Shutdown implements client.Producer.
func (a *answers) Shutdown() error { return nil }

func newTestSender(a *answers, b *breaker.Breaker) *sender {
	shards := []shard{{topic: "t", broker: "a", id: 0}, {topic: "t", broker: "b", id: 0}, {topic: "t", broker: "a", id: 1}}
	return &sender{
		producer: a, breaker: b, timeout: time.Second, cluster: &cluster{},
		routes: map[string]*targets{"t": {shards: shards, asked: time.Now()}}, sick: make(map[string]time.Time),
	}
}

// TestOnlySendOKIsStored: the client has no error for a broker that has not
// flushed, or not copied, what it took.
func TestOnlySendOKIsStored(t *testing.T) {
	for status, want := range map[primitive.SendStatus]string{
		primitive.SendOK:                "",
		primitive.SendFlushDiskTimeout:  "FLUSH_DISK_TIMEOUT",
		primitive.SendFlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT",
		primitive.SendSlaveNotAvailable: "SLAVE_NOT_AVAILABLE",
		primitive.SendUnknownError:      "not SEND_OK",
	} {
		s := newTestSender(&answers{status: status}, nil)
		err := s.send(t.Context(), fails, "t", primitive.NewMessage("", nil))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: %v, want %q", status, err, want)
		}
	}
}

func TestSickBrokersArePassedOver(t *testing.T) {
	a := &answers{err: errors.New("refused")}
	s := newTestSender(a, nil)
	if err := s.send(t.Context(), fails, "t", primitive.NewMessage("", nil)); err == nil {
		t.Fatal("an error is lost")
	}
	a.err = nil
	for range 5 {
		if err := s.send(t.Context(), fails, "t", primitive.NewMessage("", nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range a.brokers[1:] {
		if b == a.brokers[0] {
			t.Fatalf("after broker %s failed messages went to %v", a.brokers[0], a.brokers[1:])
		}
	}
}

// TestTheBreakerGuardsSends: it counts what fails, and not what is only too large;
// while it refuses some senders fail at once and some wait.
func TestTheBreakerGuardsSends(t *testing.T) {
	b, err := breaker.New("queue", breaker.Settings{Window: time.Minute, FailureRatio: 0.5, MinCalls: 3, OpenFor: time.Hour, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{err: errors.New("CODE: 13, DESC: the message is illegal")}
	s := newTestSender(a, b)
	send := func(ctx context.Context, p patience) error { return s.send(ctx, p, "t", primitive.NewMessage("", nil)) }
	for range 10 {
		if err := send(t.Context(), fails); !errors.Is(err, errTooLarge) {
			t.Fatalf("got %v, want errTooLarge", err)
		}
	}
	a.err = errors.New("no answer")
	for range 10 {
		send(t.Context(), fails)
	}
	tries := len(a.brokers)
	if err := send(t.Context(), fails); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("an impatient sender: %v, want ErrOpen", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := send(ctx, waits); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a patient sender: %v, want it to wait until its context ends", err)
	}
	if len(a.brokers) != tries {
		t.Errorf("%d messages went to the brokers while the breaker was open", len(a.brokers)-tries)
	}
}

// TestSendersAreWaitedFor: the client is not shut down under a send.
func TestSendersAreWaitedFor(t *testing.T) {
	a := &answers{sending: make(chan struct{}), go_: make(chan struct{})}
	s := newTestSender(a, nil)
	sent, closed := make(chan error, 1), make(chan error, 1)
	release := sync.OnceFunc(func() { close(a.go_) })
	defer release()
	go func() { sent <- s.send(context.Background(), fails, "t", primitive.NewMessage("", nil)) }()
	<-a.sending
	go func() { closed <- s.close() }()
	for {
		// Once it refuses, it is waiting.
		if err := s.enter(); errors.Is(err, queue.ErrClosed) {
			break
		}
		s.work.Done()
	}
	select {
	case <-closed:
		t.Fatal("the sender was closed under a send")
	case <-time.After(10 * time.Millisecond):
	}
	release()
	if err := <-sent; err != nil {
		t.Errorf("the send under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestTargetsAreShared: many take turns while brokers fail and queues are asked for. It
// is the race detector's.
func TestTargetsAreShared(t *testing.T) {
	s := newTestSender(&answers{}, nil)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 200 {
				to, err := s.target("t")
				if err != nil {
					t.Error(err)
					return
				}
				s.failed(to)
			}
		})
	}
	work.Wait()
}

// TestUnlearnedTargetsStayUnlearned: who has been asking for a topic's queues since
// before does not bring those back that the broker has lost.
func TestUnlearnedTargetsStayUnlearned(t *testing.T) {
	asked, go_ := make(chan struct{}), make(chan frame)
	addr := serve(t, func(frame) frame {
		asked <- struct{}{}
		return <-go_
	})
	w := newWire(func(frame) {})
	t.Cleanup(w.close)
	s := newTestSender(&answers{}, nil)
	s.cluster = &cluster{wire: w, nameServers: []string{addr}}
	s.failed(s.routes["t"].shards[0])
	done := make(chan error, 1)
	go func() {
		_, err := s.target("t")
		done <- err
	}()
	<-asked
	s.unlearn("t")
	go_ <- frame{Code: 1, Remark: "system busy"}
	select {
	case <-asked:
		go_ <- frame{Code: ansTopicUnknown}
	case err := <-done:
		t.Fatalf("the old queues are used: %v", err)
	}
	if err := <-done; !errors.Is(err, errNoTopic) {
		t.Errorf("got %v, want errNoTopic", err)
	}
	if s.routes["t"] != nil {
		t.Errorf("the old queues are back: %+v", s.routes["t"])
	}
}
