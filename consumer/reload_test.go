package consumer_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"manna/consumer"
	"manna/delivery/partnertest"
	"manna/gift"
	"manna/queue"
)

// gated is a queue that refuses the lane of one partner.
type gated struct {
	queue.Queue
	refuses string
}

var errGated = errors.New("its topic has too few queues")

func (g *gated) Lane(ctx context.Context, partner string) (queue.Lane, error) {
	if partner == g.refuses {
		return nil, errGated
	}
	return g.Queue.Lane(ctx, partner)
}

func TestReloadThatIsRefusedChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.partner("old", partnertest.Script{}, seat{idempotent: true, rate: 100})
	w.partner("gone", partnertest.Script{}, seat{idempotent: true, rate: 200})
	before := slices.Clone(w.partners)
	w.partner("fine", partnertest.Script{}, seat{idempotent: true, rate: 300})
	w.partner("zeal", partnertest.Script{}, seat{idempotent: true, rate: 400})
	faster := *before[0]
	faster.Rate = 150
	after := []*consumer.Partner{&faster, w.partners[2], w.partners[3]}

	q := &gated{Queue: w.queue, refuses: "zeal"}
	c, err := consumer.New(consumer.Options{Log: w.log, Queue: q, Partners: before})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case <-c.Opened():
	case <-time.After(patience):
		t.Fatal("the lanes are not opened")
	}
	is := func(when string, rates map[string]gift.Rate) {
		t.Helper()
		got := make(map[string]gift.Rate)
		for _, s := range c.Lanes(t.Context()) {
			got[s.Partner] = s.Rate
		}
		if len(got) != len(rates) {
			t.Errorf("%s: lanes %v, want %v", when, got, rates)
		}
		for name, rate := range rates {
			if got[name] != rate {
				t.Errorf("%s: lane %s has rate %v, want %v", when, name, got[name], rate)
			}
		}
	}
	adopted := false
	adopt := func() error { adopted = true; return nil }
	if err := c.ReloadWith(after, adopt); !errors.Is(err, errGated) || adopted {
		t.Errorf("a lane is refused: %v, adopted %v", err, adopted)
	}
	is("a lane was refused", map[string]gift.Rate{"old": 100, "gone": 200})

	// What was opened on the way is closed, else it could not be opened again.
	q.refuses = ""
	errAdopt := errors.New("closed")
	if err := c.ReloadWith(after, func() error { return errAdopt }); !errors.Is(err, errAdopt) {
		t.Errorf("adopt fails: %v", err)
	}
	is("adopting failed", map[string]gift.Rate{"old": 100, "gone": 200})
	if err := c.ReloadWith(after, adopt); err != nil || !adopted {
		t.Errorf("all lanes can be opened: %v, adopted %v", err, adopted)
	}
	is("reloaded", map[string]gift.Rate{"old": 150, "fine": 300, "zeal": 400})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
