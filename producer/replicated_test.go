package producer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
	"manna/queue"
)

// broker is a queue that takes what it is fed, fails or hangs.
type broker struct {
	mu   sync.Mutex
	err  error
	hold chan struct{} // Feed waits until it is closed; nil: it does not
	has  map[gift.OrderID]bool
}

func (b *broker) Feed(ctx context.Context, msgs []*queue.Message) (confirmed func() error) {
	return func() error { return b.take(ctx, msgs) }
}

func (b *broker) take(ctx context.Context, msgs []*queue.Message) error {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	for _, m := range msgs {
		b.has[m.Order.ID] = true
	}
	return nil
}

func (b *broker) is(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// hang makes the queue hang until it is let go.
func (b *broker) hang() (letGo func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	hold := make(chan struct{})
	b.hold = hold
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.hold = nil
		close(hold)
	}
}

func (b *broker) got(id gift.OrderID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.has[id]
}

// lines is what was logged, by whichever goroutine.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// replicating is a front that answers when its broker has the claim.
type replicating struct {
	*fixture
	broker  *broker
	broken  atomic.Bool
	said    *lines // what the front logged
	metrics *prometheus.Registry
}

const within = time.Second

// replicate opens such a front on a disk; end stops it.
func replicate(t *testing.T, d disk.Disk, b *broker, change ...func(*Options)) (r *replicating, end func()) {
	t.Helper()
	r = &replicating{broker: b, said: &lines{}, metrics: prometheus.NewRegistry()}
	var feeder *Feeder
	r.fixture = openNode(t, "a", d, "/data", append([]func(*Options){func(o *Options) {
		var err error
		if feeder, err = NewFeeder(FeederOptions{Log: o.Log, Queue: b, Name: "broker"}); err != nil {
			t.Fatal(err)
		}
		o.Replication = &Replication{Feeder: feeder, Broken: r.broken.Load, Within: within}
		o.Logger = slog.New(slog.NewTextHandler(r.said, nil))
		o.Metrics = r.metrics
	}}, change...)...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- feeder.Run(ctx) }()
	stop := r.running()
	var once sync.Once
	end = func() {
		once.Do(func() {
			stop()
			cancel()
			if err := <-done; err != nil && !errors.Is(err, fallbacklog.ErrClosed) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	return r, end
}

func (r *replicating) degraded() float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "manna_durability_degraded" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.t.Fatal("no metric manna_durability_degraded")
	return 0
}

// took claims and tells how long that took.
func (r *replicating) took(user string) time.Duration {
	r.t.Helper()
	began := time.Now()
	r.claim(Request{Campaign: "spring", User: user})
	return time.Since(began)
}

func newBroker() *broker { return &broker{has: map[gift.OrderID]bool{}} }

func TestReplicatedClaimIsInTheQueueWhenItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := replicate(t, crashdisk.New(1), newBroker())
		letGo := r.broker.hang()
		answered := make(chan Answer, 2)
		for range 2 { // the second is a repeat: it must not be told sooner
			go func() { answered <- r.claim(Request{Campaign: "spring", User: "u"}) }()
		}
		time.Sleep(within / 2)
		want(t, "answered", len(answered), 0)
		letGo()
		for range 2 {
			a := <-answered
			if !r.broker.got(a.Claim.Orders[0].ID) {
				t.Error("answered, and the queue does not have it")
			}
		}
		var reqs []Request
		for i := range 50 {
			reqs = append(reqs, Request{Campaign: "spring", User: user(i)})
		}
		letGo = r.broker.hang()
		batch := make(chan []Result, 1)
		go func() { batch <- r.ClaimBatch(t.Context(), reqs) }()
		time.Sleep(within / 2)
		want(t, "batches answered", len(batch), 0)
		letGo()
		for i, result := range <-batch {
			if result.Err != nil || !r.broker.got(result.Answer.Claim.Orders[0].ID) {
				t.Errorf("claim %d of a batch: %v, answered before the queue has it", i, result.Err)
			}
		}
		want(t, "notes", len(r.Notes()), 0)
	})
}

func TestReplicationDegradesAndComesBack(t *testing.T) {
	for name, hung := range map[string]bool{"the queue fails": false, "the queue hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := crashdisk.New(1)
				b := newBroker()
				r, end := replicate(t, d, b)
				r.took("before")
				letGo := func() { b.is(nil) }
				if hung {
					letGo = b.hang()
				} else {
					b.is(errQueue)
				}
				// All that wait are let go when the first has waited long enough.
				var wg sync.WaitGroup
				for i := range 50 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						if took := r.took("waits" + user(i)); took > within {
							t.Errorf("a claim took %v", took)
						}
					})
				}
				began := time.Now()
				wg.Wait()
				want(t, "degraded after", time.Since(began), within)
				for i := range 50 {
					want(t, "degraded, a claim takes", r.took("on"+user(i)), 0)
				}
				want(t, "metric", r.degraded(), 1)
				if notes := r.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "local") {
					t.Errorf("notes %q", notes)
				}
				time.Sleep(time.Minute)
				want(t, "lines of the log about it", strings.Count(r.said.String(), "durability is degraded"), 1)
				want(t, "ready all the same", r.Ready(), nil)

				letGo()
				time.Sleep(10 * time.Second) // the feeder's longest pause, and more
				want(t, "metric", r.degraded(), 0)
				want(t, "notes", len(r.Notes()), 0)
				want(t, "lines of the log about the end", strings.Count(r.said.String(), "durability is replicated again"), 1)
				for _, rec := range r.records(fallbacklog.Claimed) {
					if !b.got(rec.Claim.Orders[0].ID) {
						t.Errorf("the claim of %s did not reach the queue", rec.Claim.User)
					}
				}
				letGo = b.hang()
				answered := make(chan time.Duration)
				go func() { answered <- r.took("held again") }()
				time.Sleep(within / 2)
				letGo()
				want(t, "held again for", <-answered, within/2)

				// Started over a queue that is down, it degrades as it would have.
				letGo = b.hang()
				end()
				r.log.Close()
				r, _ = replicate(t, d.Kill(), b)
				want(t, "after a restart, the first claim takes", r.took("restarted"), within)
				want(t, "and the next", r.took("next"), 0)
				letGo()
			})
		})
	}
}

func TestReplicationFollowsTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := replicate(t, crashdisk.New(1), newBroker())
		letGo := r.broker.hang()
		answered := make(chan time.Duration)
		go func() { answered <- r.took("waiting") }()
		time.Sleep(10 * time.Millisecond)
		r.broken.Store(true)
		if took := <-answered; took > breakerEvery {
			t.Errorf("with an open breaker a claim took %v", took)
		}
		want(t, "with an open breaker a claim takes", r.took("next"), 0)
		letGo()
		time.Sleep(time.Second)
		want(t, "degraded while the breaker is held", r.degraded(), 1)
		r.broken.Store(false)
		time.Sleep(2 * breakerEvery)
		want(t, "degraded after it", r.degraded(), 0)
	})
}

// Claims that wait for the queue never take the place of those that come.
func TestReplicationHoldsNoMoreThanTheFrontBears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := replicate(t, crashdisk.New(1), newBroker(), func(o *Options) { o.Limits.InFlight = 20 })
		letGo := r.broker.hang()
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 20 {
			wg.Go(func() { r.took(user(i)) })
		}
		wg.Wait()
		want(t, "20 claims took", time.Since(began), 0)
		want(t, "degraded", r.degraded(), 1)
		letGo()
	})
}

func TestReplicatedClaimOfACallerWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := replicate(t, crashdisk.New(1), newBroker())
		letGo := r.broker.hang()
		ctx, cancel := context.WithTimeout(t.Context(), within/4)
		defer cancel()
		if _, err := r.Claim(ctx, Request{Campaign: "spring", User: "u"}); err != nil {
			t.Errorf("an accepted claim: %v", err)
		}
		letGo()
		want(t, "duplicate", r.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
		want(t, "degraded", r.degraded(), 0)
	})
}
