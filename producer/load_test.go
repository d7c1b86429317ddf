package producer

import (
	"context"
	"slices"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/queue"
)

// asking is a queue that does with each batch what it is told to.
type asking struct{ calls chan *asked }

// asked is one call of Feed.
type asked struct {
	msgs   []*queue.Message
	go_    chan struct{} // Feed returns when it is closed
	answer chan error    // what confirms it
}

func (q *asking) Feed(_ context.Context, msgs []*queue.Message) (confirmed func() error) {
	a := &asked{slices.Clone(msgs), make(chan struct{}), make(chan error, 1)}
	q.calls <- a
	<-a.go_
	return func() error { return <-a.answer }
}

// The next batch is on its way while the last is not confirmed, and no more than that:
// nothing is passed before it is in the queue, what is is passed at once, and what fails
// goes before what comes after both.
func TestFeederHasTheNextBatchOnItsWay(t *testing.T) {
	f := openFixture(t)
	for i := range 5 {
		f.claim(Request{Campaign: "spring", User: user(i)})
	}
	claims := f.records(fallbacklog.Claimed)
	q := &asking{make(chan *asked)}
	ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	feeder, cancel, done := runFeeder(t, FeederOptions{Log: f.log, Queue: q, Name: "asking", Batch: 1, RetryMin: time.Microsecond, RetryMax: time.Microsecond})
	next := func(claim int) *asked {
		t.Helper()
		select {
		case a := <-q.calls:
			if len(a.msgs) != 1 || a.msgs[0].Claim.ID != claims[claim].Claim.ID {
				t.Fatalf("%d messages are fed, the first of claim %v, want claim %d", len(a.msgs), a.msgs[0].Claim.ID, claim)
			}
			return a
		case <-ctx.Done():
			t.Fatalf("claim %d is not fed", claim)
			return nil
		}
	}
	through := func(when string, claim int) {
		t.Helper()
		if at := feeder.Through(); at <= claims[claim].At || at > claims[claim+1].At {
			t.Errorf("%s it is fed through %v, want claim %d and not the next", when, at, claim)
		}
	}
	first := next(0)
	close(first.go_)
	second := next(1) // which the queue is slow to take in
	want(t, "fed through, with nothing confirmed", feeder.Through(), 0)
	first.answer <- nil
	if err := feeder.Wait(ctx, claims[0].At); err != nil {
		t.Fatalf("what is confirmed is not passed while the next is handed over: %v", err)
	}
	close(second.go_)
	third := next(2)
	close(third.go_)
	third.answer <- nil
	second.answer <- errQueue
	again := next(1)
	through("with a batch that failed", 0)
	close(again.go_)
	again.answer <- nil
	fourth := next(3)
	if err := feeder.Wait(ctx, claims[2].At); err != nil {
		t.Fatal(err)
	}
	close(fourth.go_)
	fifth := next(4)
	close(fifth.go_)
	cancel()
	// What was on its way is heard of also on the way out.
	fourth.answer <- nil
	fifth.answer <- errQueue
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	through("at the end", 3)
	want(t, "behind, at the end", feeder.Behind(), 0)
}
