//go:build engines

package rocketmq_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"manna/ops/local/engines"
	"manna/queue"
	"manna/queue/rocketmq"
)

// wrong asserts that an error names all of these.
func wrong(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v; want an error with %q", what, err, part)
		}
	}
}

func TestTopicsWithTooFewQueues(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 2)
	if err := r.lane(q, "midas").Close(); err != nil {
		t.Fatal(err)
	}
	wide := r.open("b", 4)
	_, err := wide.Lane(t.Context(), "midas")
	remedy := []string{r.group + "-first-midas", "2 queues", "mqadmin updateTopic", "queues: 2"}
	wrong(t, "a lane", err, remedy...)
	wrong(t, "feeding", wide.Feed(t.Context(), r.claims(1, "midas"))(), remedy...)
	_, err = rocketmq.Check(t.Context(), r.options("b", 4), "midas")
	wrong(t, "a check", err, append(remedy, r.group+"-later-midas")...)
	if errors.Is(err, rocketmq.ErrAway) {
		t.Errorf("waiting is said to help: %v", err)
	}
}

// What is wrong with one partner's topics is that partner's alone.
func TestPartnerWithTooFewQueuesHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t)
	if err := r.lane(r.open("a", 2), "nova").Close(); err != nil {
		t.Fatal(err)
	}
	q := r.open("b", 4)
	l := r.lane(q, "iris")
	refused := func(what string, err error) {
		t.Helper()
		var lane *queue.LaneRefusedError
		if !errors.As(err, &lane) || lane.Partner != "nova" || !strings.Contains(lane.Err.Error(), "mqadmin updateTopic") {
			t.Errorf("%s: %v; want nova refused, with what helps", what, err)
		}
	}
	mixed := append(r.claims(1, "iris"), r.claims(2, "nova")...)
	refused("feed", q.Feed(t.Context(), mixed)())
	if n := r.status(q, "iris").Backlog; n != 0 {
		t.Errorf("%d messages are stored of what is fed again without nova's", n)
	}
	r.feed(q, mixed[0])
	if m := r.receive(l); m.Order.ID != mixed[0].Order.ID {
		t.Errorf("received %v, want %v", m.Order.ID, mixed[0].Order.ID)
	} else {
		r.ack(l, m)
	}
	mixed = append(r.claims(1, "nova"), r.claims(1, "iris")...)
	refused("send", q.Send(t.Context(), mixed...))
	if m := r.receive(l); m.Order.ID != mixed[1].Order.ID {
		t.Errorf("received %v, want %v", m.Order.ID, mixed[1].Order.ID)
	} else {
		r.ack(l, m)
	}
	if err := rocketmq.ChangeTopic(t.Context(), r.addr, r.group+"-first-nova", 4, 6); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-soon-nova", "-later-nova"} {
		if err := rocketmq.ChangeTopic(t.Context(), r.addr, r.group+name, 4, 6); err != nil {
			t.Fatal(err)
		}
	}
	r.feed(q, mixed[0])
}

// A topic's right is taken while it is in use, and given back.
func TestTopicThatMayNotBeWrittenHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t)
	r.feed(r.open("a", 2), append(r.claims(1, "iris"), r.claims(1, "nova")...)...)
	set := func(perm int) {
		t.Helper()
		if err := rocketmq.ChangeTopic(t.Context(), r.addr, r.group+"-first-nova", 2, perm); err != nil {
			t.Fatal(err)
		}
	}
	set(4)
	q := r.open("b", 2)
	err := q.Feed(t.Context(), append(r.claims(1, "iris"), r.claims(1, "nova")...))()
	var lane *queue.LaneRefusedError
	if !errors.As(err, &lane) || lane.Partner != "nova" || !strings.Contains(lane.Err.Error(), "mqadmin updateTopicPerm") {
		t.Errorf("got %v; want nova refused, with what helps", err)
	}
	r.feed(q, r.claims(1, "iris")...)
	set(6)
	r.feed(q, r.claims(1, "nova")...)
}

func TestCheckFindsTheBrokers(t *testing.T) {
	r := newRig(t)
	opts := r.options("a", 4)
	found, err := rocketmq.Check(t.Context(), opts, "midas", "iris")
	if err != nil || len(found.Brokers) != 1 || !strings.HasSuffix(found.Brokers[0], r.servers.Addr(engines.Broker)) || len(found.Away) > 0 {
		t.Fatalf("found %+v, %v; want the broker at %s", found, err, r.servers.Addr(engines.Broker))
	}
	want := []string{r.group + "-marks"}
	for _, partner := range []string{"midas", "iris"} {
		for _, what := range []string{"first", "soon", "later"} {
			want = append(want, r.group+"-"+what+"-"+partner)
		}
	}
	if !slices.Equal(found.Missing, want) {
		t.Errorf("missing are %v, want %v", found.Missing, want)
	}
	// It has made nothing.
	if _, err := r.open("a", 4).Aside(t.Context(), "midas"); err == nil {
		t.Error("a check makes topics")
	}

	opts.Cluster = "Elsewhere"
	_, err = rocketmq.Check(t.Context(), opts)
	wrong(t, "a cluster that is not there", err, "Elsewhere", "DefaultCluster")

	opts = r.options("a", 4)
	opts.NameServers = append(opts.NameServers, r.servers.Addr(engines.Broker))
	if found, err := rocketmq.Check(t.Context(), opts); err == nil || len(found.Brokers) != 1 || len(found.Away) > 0 {
		t.Errorf("a broker's address among the name servers': %+v, %v; want an error, and the brokers", found, err)
	}
	// What is only away leaves a queue that works, as Open's does.
	nobody, hangup := freeAddr(t), listen(t, func(net.Conn) {})
	opts.NameServers = []string{nobody, r.addr, hangup}
	if found, err := rocketmq.Check(t.Context(), opts); err != nil || len(found.Brokers) != 1 || !slices.Equal(found.Away, []string{nobody, hangup}) {
		t.Errorf("two name servers are away: %+v, %v; want these two named, and no error", found, err)
	}
	opts.Metrics = nil
	opts.NameServers = []string{"localhost:" + r.addr[strings.LastIndex(r.addr, ":")+1:]}
	q, err := rocketmq.Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("a name server by name: %v", err)
	}
	r.feed(q, r.claims(1, "midas")...)
	if err := q.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGroupsThatTheBrokerDoesNotKnow(t *testing.T) {
	r := newRig(t)
	set := func(value string) {
		if err := rocketmq.SetBroker(context.Background(), r.addr, "autoCreateSubscriptionGroup", value); err != nil {
			t.Error(err)
		}
	}
	set("false")
	t.Cleanup(func() { set("true") })
	_, err := r.open("a", 1).Lane(t.Context(), "midas")
	wrong(t, "a lane", err, r.group+"-lane-midas", "mqadmin updateSubGroup")
}
