//go:build engines

package rocketmq_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"manna/queue"
)

// process is a member of the lane's group in a process of its own. It holds
// whatever it receives.
type process struct {
	cmd *exec.Cmd
	got chan string // the orders that it has received
}

func (r *rig) startMember(partner string) *process {
	r.Helper()
	p := &process{cmd: exec.Command(os.Args[0], memberCommand, r.addr, r.group, partner), got: make(chan string, 1000)}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		in.Close()
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	go func() {
		defer close(p.got)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.got <- lines.Text()
		}
	}()
	return p
}

// TestMembersShareALane: two processes have each its part of the queues; when one
// is killed the other receives what that one held, and nothing of its own again.
func TestMembersShareALane(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 4)
	l := r.lane(q, "midas")
	other := r.startMember("midas")
	// Orders go on coming until the other process has its part.
	mine, its := map[string]*queue.Message{}, map[string]bool{}
	deadline := time.Now().Add(patience)
	for len(its) < 50 {
		if time.Now().After(deadline) {
			t.Fatalf("another member has received %d messages; this one has %d", len(its), len(mine))
		}
		for range 4 {
			r.feed(q, r.claims(1, "midas")...)
		}
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			m, err := l.Receive(ctx)
			cancel()
			if err != nil {
				break
			}
			mine[m.Order.ID.String()] = m
			r.ack(l, m)
		}
		for len(other.got) > 0 {
			id := <-other.got
			if strings.HasPrefix(id, "error") {
				t.Fatal(id)
			}
			its[id] = true
		}
	}
	twice := 0
	for id := range its {
		if mine[id] != nil {
			twice++
		}
	}
	// Those that this one held when the queues moved come again to the other.
	if twice > len(its)/2 {
		t.Errorf("of %d messages %d came to both", len(its), twice)
	}
	if s := r.status(q, "midas"); s.Backlog < int64(len(its)-twice) {
		t.Errorf("another member holds %d and the backlog is %d", len(its), s.Backlog)
	}

	if err := other.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for id := range other.got {
		its[id] = true
	}
	for id := range mine {
		delete(its, id)
	}
	for len(its) > 0 {
		m := r.receive(l)
		delete(its, m.Order.ID.String())
		r.ack(l, m)
	}
}

// TestWhatComesTooEarlyIsSentOn: what the timer gave back long before it is due goes
// into the timer again, and is covered by the watermark all the while.
func TestWhatComesTooEarlyIsSentOn(t *testing.T) {
	r := newRig(t)
	q := r.open("a", 1)
	l := r.lane(q, "midas")
	m := r.claims(1, "midas")[0]
	m.Attempts = 1
	due := time.Now().Add(time.Hour)
	if err := q.SendLater(t.Context(), m, due); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		s := r.status(q, "midas")
		// On its way it is covered and for a moment not counted.
		if s.OldestDue.IsZero() || s.OldestDue.After(due) {
			t.Fatalf("a message is due at %v and the status is %+v", due, s)
		}
		n, err := q.Timing(t.Context(), "midas")
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 && s.Deferred == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the timer has %d of %d deferred messages", n, s.Deferred)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if m, err := l.Receive(ctx); err == nil {
		t.Errorf("received %+v an hour before it is due", m)
	}
}

// TestStatusIsTheGroups: backlog and watermark are read from the brokers, by nodes
// that have no part in the lane, and follow what the lane lets go.
func TestStatusIsTheGroups(t *testing.T) {
	r := newRig(t)
	q, watcher := r.open("lanes", 4), r.open("reconciler", 4)
	msgs := r.claims(10, "midas")
	for _, m := range msgs {
		r.feed(q, m)
	}
	check := func(when string, backlog int64, oldest time.Time) {
		t.Helper()
		s := r.status(watcher, "midas")
		if s.Backlog != backlog || s.Held != 0 {
			t.Errorf("%s: backlog %d, held %d; want %d, 0", when, s.Backlog, s.Held, backlog)
		}
		switch {
		case oldest.IsZero() != s.Oldest.IsZero():
			t.Errorf("%s: the oldest is %v, want %v", when, s.Oldest, oldest)
		case s.Oldest.After(oldest) || oldest.Sub(s.Oldest) > 5*time.Minute:
			t.Errorf("%s: the oldest is %v, want %v or a little before", when, s.Oldest, oldest)
		case !s.OldestSeen.Equal(oldest.Truncate(time.Millisecond)):
			t.Errorf("%s: the oldest seen is %v, want %v", when, s.OldestSeen, oldest)
		}
	}
	check("fed", 10, msgs[0].Claim.ClaimedAt)
	l := r.lane(q, "midas")
	var held []*queue.Message
	for range msgs {
		held = append(held, r.receive(l))
	}
	check("held", 10, msgs[0].Claim.ClaimedAt)
	if s := r.status(q, "midas"); s.Backlog != 0 || s.Held != 10 || s.Oldest.IsZero() {
		t.Errorf("the lane's own status is %+v; want 10 held and no backlog", s)
	}
	for _, m := range held {
		r.ack(l, m)
	}
	r.status(q, "midas") // writes the places
	check("let go", 0, time.Time{})
	// It takes no part: the lane still has all queues.
	r.feed(q, r.claims(20, "midas")...)
	for range 20 {
		r.ack(l, r.receive(l))
	}
}
