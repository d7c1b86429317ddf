package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"manna/breaker"
	"manna/queue"
)

// newFeeding is a queue whose topics are there and whose broker answers as told.
func newFeeding(t *testing.T, a *answers, b *breaker.Breaker) *Queue {
	t.Helper()
	q := &Queue{opts: Options{Group: "manna", Node: "a", Batch: 256, Senders: 4, Queues: 1}, feeding: make(chan struct{}, 4)}
	q.topics = newProvision(&cluster{}, slog.New(slog.DiscardHandler))
	q.sender = newTestSender(a, b)
	q.marks = &marks{topics: q.topics, sender: q.sender, topic: marksOf("manna")}
	lane, err := topicsOf("manna", "midas")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range append(lane.of[:], q.marks.topic) {
		q.topics.known[topic] = present
		q.sender.routes[topic] = &targets{shards: []shard{{topic: topic, broker: "a"}}, asked: time.Now()}
	}
	return q
}

// fed is a batch of one first delivery.
func fed() []*queue.Message {
	m := samples()["first"].m
	return []*queue.Message{&m}
}

// TestMarksAreAsYoungAsWhatWaited: what has waited at the breaker follows a mark that
// was stored after the wait, however young the one was when it began to.
func TestMarksAreAsYoungAsWhatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := breaker.New("queue", breaker.Settings{Window: time.Minute, FailureRatio: 0.5, MinCalls: 3, OpenFor: time.Hour, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		a := &answers{status: primitive.SendOK}
		q := newFeeding(t, a, b)
		if err := q.Feed(t.Context(), fed())(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(markEvery / 2)
		b.Hold(breaker.HeldOpen)
		waited := make(chan error, 1)
		go func() { waited <- q.Feed(t.Context(), fed())() }()
		time.Sleep(2 * time.Hour)
		b.Hold(breaker.Automatic)
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		if want := []string{"manna-marks", "manna-first-midas", "manna-marks", "manna-first-midas"}; !slices.Equal(a.topics, want) {
			t.Errorf("messages went to %v, want %v", a.topics, want)
		}
		if took := time.Since(b.Snapshot().Since); took > 0 {
			t.Errorf("after the breaker was let go it took %v more", took)
		}
	})
}

// TestWhoCannotSendDoubtsNothing: a breaker that is open says nothing of topics.
func TestWhoCannotSendDoubtsNothing(t *testing.T) {
	b, err := breaker.New("queue", breaker.Settings{Window: time.Minute, FailureRatio: 0.5, MinCalls: 3, OpenFor: time.Hour, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{status: primitive.SendOK}
	q := newFeeding(t, a, b)
	if err := q.Send(t.Context(), fed()...); err != nil {
		t.Fatal(err)
	}
	b.Hold(breaker.HeldOpen)
	if err := q.Send(t.Context(), fed()...); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("got %v, want ErrOpen", err)
	}
	if got := q.topics.standing("manna-first-midas"); got != present {
		t.Errorf("the lane's topics are in standing %d", got)
	}
	b.Hold(breaker.Automatic)
	a.err = errors.New("no answer")
	if err := q.Send(t.Context(), fed()...); err == nil {
		t.Error("an error is lost")
	}
	if got := q.topics.standing("manna-first-midas"); got != doubtful {
		t.Errorf("after a failure the lane's topics are in standing %d, want doubtful", got)
	}
}

// TestTopicsAreAskedForOnce for each batch, and what needs those that are not there is
// left out alone.
func TestTopicsAreAskedForOnce(t *testing.T) {
	var asked atomic.Int64
	addr := serve(t, func(frame) frame {
		asked.Add(1)
		return frame{Code: 1, Remark: "system busy"}
	})
	w := newWire(func(frame) {})
	t.Cleanup(w.close)
	a := &answers{status: primitive.SendOK}
	q := newFeeding(t, a, nil)
	q.topics.cluster = &cluster{wire: w, nameServers: []string{addr}}
	other := samples()["first"].m
	other.Order.Partner = "iris"
	mixed := append([]*queue.Message{&other}, fed()...)
	if err := q.Feed(t.Context(), mixed)(); err == nil || !strings.Contains(err.Error(), "lane iris") {
		t.Errorf("got %v, want an error that names the lane", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the name server was asked %d times, want once", n)
	}
	if len(a.topics) > 0 {
		t.Errorf("of a batch that is fed again, messages went to %v", a.topics)
	}
	if err := q.Send(t.Context(), mixed...); err == nil || !strings.Contains(err.Error(), "lane iris") {
		t.Errorf("got %v, want an error that names the lane", err)
	}
	if want := []string{"manna-marks", "manna-soon-midas"}; !slices.Equal(a.topics, want) {
		t.Errorf("messages went to %v, want %v", a.topics, want)
	}
}

// TestFeedsShareTheirSlots: Feed returns while its last requests are under way, and with
// as many of them as there are slots the next waits for one, no longer than its context;
// Close waits for what is under way.
func TestFeedsShareTheirSlots(t *testing.T) {
	const senders = 2
	a := &answers{status: primitive.SendOK, sending: make(chan struct{}), go_: make(chan struct{})}
	q := newFeeding(t, a, nil)
	q.opts.Batch, q.feeding = 1, make(chan struct{}, senders)
	q.marks.written[claimTimes].at = time.Now() // and low enough
	release := sync.OnceFunc(func() { close(a.go_) })
	defer release()
	confirmed := q.Feed(t.Context(), append(fed(), fed()...))
	for range senders {
		<-a.sending
	}
	ctx, cancel := context.WithCancel(t.Context())
	next := make(chan error, 1)
	go func() { next <- q.Feed(ctx, fed())() }()
	idle := make(chan struct{})
	go func() {
		q.work.Wait()
		close(idle)
	}()
	select {
	case <-a.sending:
		t.Error("more requests are under way than there are slots")
	case err := <-next:
		t.Errorf("the next Feed does not wait: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	cancel()
	if err := <-next; !errors.Is(err, context.Canceled) {
		t.Errorf("the next Feed ends with %v, want its context's end", err)
	}
	select {
	case <-idle:
		t.Error("nobody waits for the requests that are under way")
	case <-time.After(10 * time.Millisecond):
	}
	release()
	if err := confirmed(); err != nil {
		t.Error(err)
	}
	<-idle
}

// TestFailedBatchesAreNotUsedAgain: the client may still read what it has not answered.
func TestFailedBatchesAreNotUsedAgain(t *testing.T) {
	a := &answers{err: errors.New("no answer in time")}
	q := newFeeding(t, a, nil)
	q.marks.written[claimTimes].at = time.Now()
	if err := q.Feed(t.Context(), fed())(); err == nil {
		t.Fatal("an error is lost")
	}
	if b := q.batches.Get(); b != nil {
		t.Errorf("it is to be filled again: %+v", b)
	}
}
