//go:build engines

package rocketmq_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"manna/queue"
	"manna/queue/rocketmq"
)

// TestStrangeMessagesArePutAside: a lane passes over what it cannot read, keeps it
// elsewhere, says so and counts it, once.
func TestStrangeMessagesArePutAside(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 1)
	l := r.lane(q, "midas")
	newer := string(rocketmq.NewerMessage())
	for _, body := range []string{"an order of another firm", newer} {
		if err := q.SendRaw(t.Context(), "first", "midas", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	want := r.claims(1, "midas")[0]
	r.feed(q, want)
	if m := r.receive(l); m.Order.ID != want.Order.ID {
		t.Fatalf("received %v, want %v", m.Order.ID, want.Order.ID)
	} else {
		r.ack(l, m)
	}
	r.log.await(t, 2, "ERROR", "put aside", "midas")
	n := &night{rig: r, q: q, lane: l}
	n.empties("midas")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n.lane = r.lane(q, "midas")
	n.empties("midas")

	aside, err := q.Aside(t.Context(), "midas")
	if err != nil {
		t.Fatal(err)
	}
	if len(aside) != 2 || !strings.Contains(aside["an order of another firm"], "foreign") || !strings.Contains(aside[newer], "format 2") {
		t.Errorf("aside are %q", aside)
	}
	if s := r.status(q, "midas"); s.Aside != 2 || s.Backlog != 0 {
		t.Errorf("the lane has %d messages aside and %d waiting, want 2 and none", s.Aside, s.Backlog)
	}
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if f.GetName() == "manna_queue_aside_total" && label.GetName() == "why" {
					counted[label.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	if counted["foreign"] != 1 || counted["newer"] != 1 {
		t.Errorf("counted are %v, want one of each", counted)
	}
	if n := r.log.count("put aside"); n != 2 {
		t.Errorf("%d lines tell of 2 messages", n)
	}
}

// TestMessagesThatAreTooLarge: an order that no request can carry is refused by
// its id, before and by the broker; what the broker only takes in smaller requests
// is sent in smaller ones.
func TestMessagesThatAreTooLarge(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 1)
	l := r.lane(q, "midas")
	fat := func(n, size int) []*queue.Message {
		msgs := r.claims(n, "midas")
		for _, m := range msgs {
			m.Claim.Target = json.RawMessage(`{"note":"` + strings.Repeat("n", size) + `"}`)
		}
		return msgs
	}
	refused := func(size int) {
		t.Helper()
		msgs := append(r.claims(1, "midas"), fat(1, size)...)
		err := q.Feed(t.Context(), msgs)()
		var r *queue.RefusedError
		if !errors.As(err, &r) || r.Order != msgs[1].Order.ID {
			t.Errorf("a message of %d bytes: %v; want a refusal of order %v", size, err, msgs[1].Order.ID)
		}
	}
	refused(2 << 20)

	if err := rocketmq.SetBroker(t.Context(), r.addr, "maxMessageSize", "65536"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rocketmq.SetBroker(context.Background(), r.addr, "maxMessageSize", "4194304"); err != nil {
			t.Error(err)
		}
	})
	refused(80 << 10)
	msgs := fat(100, 4<<10)
	r.feed(q, msgs...)
	open := map[string]bool{}
	for _, m := range msgs {
		open[m.Claim.User] = true
	}
	for len(open) > 0 {
		m := r.receive(l)
		delete(open, m.Claim.User)
		r.ack(l, m)
	}
}
