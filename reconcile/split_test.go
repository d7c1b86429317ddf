package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// TestManyLogsAgreeWithOne splits one history over the logs of several nodes in any
// way and reconciles it, all of it archived: the classes are those of the same
// history in one log, and the same orders go back to their lanes.
//
// Where records of different nodes lie so close that their clocks could not tell
// which was first, the order may count as in doubt or as ended where one log knows
// better. So it may be in doubt that a person has taken up again: one log takes the
// parking for the end of the attempt before it.
//
// Who has written of a refusal writes nothing more but a grant. Other nodes may, which
// have not heard of it; in one log everybody has.
func TestManyLogsAgreeWithOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		f := newFleetWith(t, &handRuns{now: func() time.Time { return eight }}, []string{"a", "b", "c", "d"}[:rapid.IntRange(2, 4).Draw(t, "nodes")]...)
		defer f.close()
		one, err := fallbacklog.Open(fallbacklog.Options{Dir: "one", Node: "one", Disk: f.disk, Now: f.now})
		f.must(err)
		defer one.Close()
		far := rapid.Bool().Draw(t, "far apart")
		h := split{t: t, f: f, one: one, parked: make(map[gift.OrderID]bool), refused: make(map[gift.OrderID]map[string]bool)}
		from := f.at
		for range rapid.IntRange(1, 30).Draw(t, "records") {
			step := time.Duration(rapid.IntRange(1, 40).Draw(t, "step")) * time.Second
			if far {
				step += 2 * time.Minute
			}
			f.pass(step)
			h.next()
		}
		to := from.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "of the history in percent")) * f.at.Sub(from) / 100).Add(time.Second)
		f.pass(5 * time.Minute)
		lane := &fixedLane{status: queue.Status{AsOf: f.at}}
		if rapid.Bool().Draw(t, "backlog") {
			lane.status.Oldest = h.moment("oldest", from)
		}
		if rapid.Bool().Draw(t, "deferred") {
			lane.status.OldestDue = h.moment("oldest due", from)
		}
		if rapid.IntRange(0, 9).Draw(t, "deaf") == 0 {
			lane.err = errors.New("down")
		}
		lanes := func() map[string]Lane { return map[string]Lane{"midas": lane} }
		many := &sent{}
		f.runner.rec.opts.Lanes, f.runner.rec.opts.Queue = lanes, many
		for name, m := range f.nodes {
			f.append(name, &fallbacklog.Record{Kind: fallbacklog.Sent, Time: f.at.Add(-2 * time.Minute), Sent: &fallbacklog.Watermark{Queue: fedName, Through: m.log.End()}})
		}
		f.look()
		f.pass(5 * time.Minute)
		for name := range f.nodes {
			f.arrive(name)
		}
		alone := &sent{}
		single, err := New(Options{Log: one, Queue: alone, Lanes: lanes, Dir: "reports/one", Disk: f.disk, Workers: 1, Now: f.now})
		f.must(err)

		q := Request{From: from, To: to}
		got := f.run(q)
		want, err := single.Run(ctx, q)
		f.must(err)
		if len(got.Incomplete) != len(want.Incomplete) || got.Done != want.Done || got.GateOpen != want.GateOpen || got.Expected != want.Expected || got.Actual != want.Actual {
			t.Fatalf("incomplete %q, done %v, gate %q; with one log %q, %v, %q", got.Incomplete, got.Done, got.Gate, want.Incomplete, want.Done, want.Gate)
		}
		classes := listed(want)
		for id, class := range listed(got) {
			settled := class == InDoubt && classes[id] == Missing && h.parked[id]
			closer := !far && (class == InDoubt || class == Parked || class == Refused) && (classes[id] == 0 || classes[id] > Mismatched)
			if classes[id] != class && !settled && !closer {
				t.Fatalf("order %v is %v, with one log %v", id, class, classes[id])
			}
		}
		if far && (got.Found != want.Found || got.InFlight != want.InFlight || !slices.Equal(orders(many), orders(alone))) {
			t.Fatalf("got %+v and %d reissued, with one log %+v and %d", got.Classes, got.Reissued, want.Classes, want.Reissued)
		}
		for _, m := range many.msgs {
			i := slices.IndexFunc(alone.msgs, func(o *queue.Message) bool { return o.Order.ID == m.Order.ID })
			if i < 0 || m.Claim == nil || m.Order.Partner != "midas" || alone.msgs[i].InDoubt && !m.InDoubt || m.Attempts != alone.msgs[i].Attempts {
				t.Fatalf("sent %+v, with one log %+v", m, alone.msgs)
			}
		}
		if again := f.run(q); again.Reissued != 0 {
			t.Fatalf("the second run reissued %d", again.Reissued)
		}
	})
}

func listed(r *Report) map[gift.OrderID]Class {
	classes := make(map[gift.OrderID]Class)
	for _, d := range r.Discrepancies {
		classes[d.OrderID] = d.Class
	}
	return classes
}

func orders(s *sent) (ids []gift.OrderID) {
	for _, m := range s.msgs {
		ids = append(ids, m.Order.ID)
	}
	return ids
}

// split writes each record into the log of some node and into the one log.
type split struct {
	t       *rapid.T
	f       *fleet
	one     *fallbacklog.Log
	claims  []*fallbacklog.Record
	parked  map[gift.OrderID]bool            // ever
	refused map[gift.OrderID]map[string]bool // by which nodes
}

const retryAfter = 30 * time.Second

func (h *split) next() {
	if len(h.claims) == 0 || rapid.IntRange(0, 3).Draw(h.t, "new") == 0 {
		c := newClaim(fmt.Sprint("u", len(h.claims)), h.f.at)
		c.Claim.Orders[0].Amount = int64(rapid.IntRange(0, 2).Draw(h.t, "amount"))
		h.claims = append(h.claims, c)
		if rapid.IntRange(0, 9).Draw(h.t, "unclaimed") == 0 {
			return
		}
		h.write(*c)
		if rapid.IntRange(0, 4).Draw(h.t, "twice") == 0 {
			h.write(*c)
		}
		return
	}
	c := rapid.SampledFrom(h.claims).Draw(h.t, "of")
	kind := rapid.SampledFrom([]fallbacklog.Kind{fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Deferred,
		fallbacklog.Unknown, fallbacklog.Parked, fallbacklog.Reissued}).Draw(h.t, "kind")
	switch kind {
	case fallbacklog.Parked:
		h.parked[c.Claim.Orders[0].ID] = true
	case fallbacklog.Reissued:
		h.f.pass(retryAfter + time.Second) // what is not overdue is not reissued
	}
	rec := about(c, kind, h.f.at, fallbacklog.Event{
		Due: h.f.at.Add(retryAfter), Attempts: rapid.IntRange(0, 3).Draw(h.t, "attempts"), Reference: rapid.SampledFrom([]string{"", "R1", "R2"}).Draw(h.t, "reference"),
	})
	if kind == fallbacklog.Granted {
		rec.Event.Amount = int64(rapid.IntRange(0, 2).Draw(h.t, "granted"))
	}
	h.write(*rec)
}

func (h *split) write(rec fallbacklog.Record) {
	names := make([]string, 0, len(h.f.nodes))
	for name := range h.f.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	node := rapid.SampledFrom(names).Draw(h.t, "node")
	var refused map[string]bool // what the record does not follow on
	if rec.Event != nil && rec.Kind != fallbacklog.Granted {
		refused = h.refused[rec.Event.Order]
	}
	if refused[node] {
		return
	}
	mine, whole := rec, rec
	h.f.append(node, &mine)
	if len(refused) == 0 {
		h.f.must(h.one.Append(context.Background(), &whole))
	}
	if rec.Kind == fallbacklog.Refused {
		if refused == nil {
			refused = make(map[string]bool)
			h.refused[rec.Event.Order] = refused
		}
		refused[node] = true
	}
	if rapid.IntRange(0, 5).Draw(h.t, "seal") == 0 {
		_, err := h.f.nodes[node].log.Seal(context.Background())
		h.f.must(err)
	}
}

func (h *split) moment(what string, from time.Time) time.Time {
	return from.Add(time.Duration(rapid.IntRange(0, 100).Draw(h.t, what)) * h.f.at.Sub(from) / 100)
}
