//go:build engines

package rocketmq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"manna/gift"
	"manna/ops/local/engines"
	"manna/queue"
	"manna/queue/rocketmq"
)

// night is a feeder and a consumer at work while servers fail. They may be on
// different nodes, and each of them may be restarted.
type night struct {
	*rig
	msgs   []*queue.Message
	fed    chan int // how many are fed
	cancel context.CancelFunc
	ended  chan struct{}

	q    *rocketmq.Queue // the consumer's
	lane queue.Lane
	seen []gift.OrderID       // in the order of their first delivery
	turn map[gift.OrderID]int // how often each was received
	done map[gift.OrderID]bool
}

func newNight(r *rig, orders int) *night {
	n := &night{
		rig: r, msgs: r.claims(orders, "midas"), fed: make(chan int, 1), ended: make(chan struct{}),
		turn: make(map[gift.OrderID]int), done: make(map[gift.OrderID]bool),
	}
	feeder := r.open("front", 1)
	ctx, cancel := context.WithCancel(r.Context())
	n.cancel = cancel
	go n.feed(ctx, feeder)
	n.reopen()
	return n
}

// feed brings batches as a feeder does: in order, each until it is taken.
func (n *night) feed(ctx context.Context, q *rocketmq.Queue) {
	defer close(n.ended)
	const batch = 25
	for at := 0; at < len(n.msgs); at += batch {
		for {
			err := q.Feed(ctx, n.msgs[at:min(at+batch, len(n.msgs))])()
			if err == nil {
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// reopen restarts the consumer's node, in good order.
func (n *night) reopen() {
	n.Helper()
	if n.q != nil {
		// The places cannot be written while the broker is away, which is told.
		n.q.Close(n.Context())
	}
	q, err := rocketmq.Open(n.Context(), n.options("lanes", 1))
	if err != nil {
		n.Fatalf("a node cannot start: %v", err)
	}
	n.q, n.lane = q, n.rig.lane(q, "midas")
}

// work receives until so many orders are done. Each fifth is deferred once.
func (n *night) work(orders int) {
	n.Helper()
	deadline, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	for len(n.done) < orders {
		m, err := n.lane.Receive(deadline)
		if err != nil {
			n.Fatalf("%d of %d orders are done, and then: %v", len(n.done), orders, err)
		}
		id := m.Order.ID
		if n.turn[id]++; n.turn[id] == 1 {
			n.seen = append(n.seen, id)
		}
		if m.Attempts == 0 && !n.done[id] && len(n.seen)%5 == 0 {
			m.Attempts++
			err = n.lane.Defer(n.Context(), m, time.Now().Add(50*time.Millisecond))
		} else {
			n.done[id] = true
			err = n.lane.Ack(n.Context(), m)
		}
		if err != nil {
			n.Fatal(err)
		}
	}
}

// TestNothingIsLostInOutages fails a server at a time while orders are fed and
// delivered, restarts the consumer's node while both are away, and then looks for
// every order, in order of age.
func TestNothingIsLostInOutages(t *testing.T) {
	r := newRig(t)
	n := newNight(r, 6000)
	d := newDeferrals(r)
	part := len(n.msgs) / 4
	n.work(part)

	// What is known already needs no name server.
	r.servers.Kill(engines.NameServer)
	n.work(2 * part)

	r.servers.Kill(engines.Broker)
	d.away()
	n.reopen()
	r.servers.Start(engines.NameServer)
	r.servers.Start(engines.Broker)
	d.back()
	n.work(3 * part)

	r.servers.Pause(engines.Broker)
	r.log.await(t, 1, "cannot write the lane's places", "deadline exceeded")
	r.servers.Resume(engines.Broker)
	n.work(len(n.msgs))
	<-n.ended

	for i, m := range n.msgs {
		if n.seen[i] != m.Order.ID {
			t.Fatalf("order %d in order of age was not the %d. to be received", i, i)
		}
	}
	again := 0
	for _, times := range n.turn {
		again += times - 1
	}
	t.Logf("%d orders were received %d times more than once, of which %d were deferred", len(n.msgs), again, len(n.msgs)/5)
	n.empties("midas")
	if err := n.q.Close(r.Context()); err != nil {
		t.Error(err)
	}
	n.cancel()
}

// TestTheBrokerIsBackBeforeTheNameServer: what has failed with both away works again
// once the broker does, for all of it is known.
func TestTheBrokerIsBackBeforeTheNameServer(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 1)
	l := r.lane(q, "midas")
	msgs := r.claims(4, "midas")
	r.feed(q, msgs[0])
	if err := q.Send(t.Context(), msgs[3]); err != nil {
		t.Fatal(err)
	}
	r.ack(l, r.receive(l))
	r.ack(l, r.receive(l))

	r.servers.Pause(engines.Broker)
	r.servers.Kill(engines.NameServer)
	if err := q.Feed(t.Context(), msgs[1:2])(); err == nil {
		t.Error("fed without a broker")
	}
	r.log.await(t, 1, "WARN cannot ask who shares the lane")
	r.servers.Resume(engines.Broker)
	try := func(what string, do func() error) {
		t.Helper()
		for deadline := time.Now().Add(patience / 2); ; {
			err := do()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s with the name server away: %v", what, err)
			}
			time.Sleep(20 * time.Millisecond) // as a feeder does
		}
	}
	try("feed", func() error { return q.Feed(t.Context(), msgs[1:2])() })
	try("send", func() error { return q.Send(t.Context(), msgs[2]) })
	r.log.await(t, 1, "over: cannot ask who shares the lane")
	missing := map[gift.OrderID]bool{msgs[1].Order.ID: true, msgs[2].Order.ID: true}
	for len(missing) > 0 { // what was fed without an answer may come twice
		m := r.receive(l)
		delete(missing, m.Order.ID)
		r.ack(l, m)
	}
	r.servers.Start(engines.NameServer)
	r.servers.Start(engines.Broker) // returns when the name server has heard of it
}

// empties waits until nothing of a lane is left, letting go of what still comes.
func (n *night) empties(partner string) {
	n.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := n.status(n.q, partner)
		if s.Backlog == 0 && s.Deferred == 0 && s.Oldest.IsZero() {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("everything has been let go and the lane has %+v", s)
		}
		ctx, cancel := context.WithTimeout(n.Context(), 100*time.Millisecond)
		m, err := n.lane.Receive(ctx)
		cancel()
		switch {
		case err == nil && !n.done[m.Order.ID]:
			n.Fatalf("order %v was not done", m.Order.ID)
		case err == nil:
			n.ack(n.lane, m)
		case !errors.Is(err, context.DeadlineExceeded):
			n.Fatal(err)
		}
	}
}

// deferrals are three messages of a lane that is there through an outage: one in
// the broker's timer and two that are held.
type deferrals struct {
	*rig
	lane              queue.Lane
	timed, kept, held *queue.Message
	timedDue          time.Time
}

func newDeferrals(r *rig) *deferrals {
	r.Helper()
	q := r.open("deferring", 1)
	d := &deferrals{rig: r, lane: r.lane(q, "iris")}
	r.feed(q, r.claims(3, "iris")...)
	d.timed, d.kept, d.held = r.receive(d.lane), r.receive(d.lane), r.receive(d.lane)
	d.timedDue = time.Now().Add(4 * time.Second)
	d.timed.Attempts = 1
	if err := d.lane.Defer(r.Context(), d.timed, d.timedDue); err != nil {
		r.Fatal(err)
	}
	if s := r.status(q, "iris"); s.OldestDue.IsZero() || s.OldestDue.After(d.timedDue) {
		r.Errorf("a message is due at %v and the watermark is %v", d.timedDue, s.OldestDue)
	}
	return d
}

// away: what is deferred without a broker stays with the lane and comes when it is
// due.
func (d *deferrals) away() {
	d.Helper()
	d.kept.Attempts = 2
	due := time.Now().Add(100 * time.Millisecond)
	if err := d.lane.Defer(d.Context(), d.kept, due); err != nil {
		d.Fatalf("a deferral without a broker: %v", err)
	}
	got := d.receive(d.lane)
	if got.Order.ID != d.kept.Order.ID || got.Attempts != 2 || time.Now().Before(due) {
		d.Fatalf("received %+v; want the message that was deferred by 100 ms", got)
	}
	d.ack(d.lane, got)
	d.ack(d.lane, d.held)
}

// back: the broker's timer has what it had when it was killed.
func (d *deferrals) back() {
	d.Helper()
	got := d.receive(d.lane)
	if got.Order.ID != d.timed.Order.ID || got.Attempts != 1 || time.Now().Before(d.timedDue) {
		d.Fatalf("received %+v; want the message that the timer had", got)
	}
	d.ack(d.lane, got)
}
