package queuetest

import (
	"context"
	"flag"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// checks sets how many runs a property makes, unless somebody asks for another number.
func checks(t *testing.T, n int) {
	if n == 0 {
		n = 25
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Value.Set(f.DefValue) })
	}
}

// property drives an engine at random, with power losses, and holds it to the
// contract: every order that has no final outcome is covered by a watermark, and
// received in the end.
func property(t *testing.T, e Engine) {
	checks(t, e.Checks)
	rapid.Check(t, func(rt *rapid.T) {
		p := &machine{w: newWorld(rt, e), orders: map[gift.OrderID]*placed{}}
		rt.Repeat(map[string]func(*rapid.T){
			"claim":   p.claim,
			"flood":   p.flood,
			"receive": p.receive,
			"settle":  p.settle,
			"retry":   p.retry,
			"attempt": p.attempt,
			"reissue": p.reissue,
			"park":    p.park,
			"restart": p.restart,
			"reopen":  p.reopen,
			"":        p.check,
		})
		for _, partner := range partners {
			var ids []gift.OrderID
			for id, o := range p.orders {
				if o.partner == partner {
					ids = append(ids, id)
				}
			}
			// What is still held comes back only after a restart.
			p.w.restart()
			p.w.drain(partner, ids...)
		}
		p.w.close()
	})
}

var partners = []string{"midas", "iris"}

// machine is what the test knows.
type machine struct {
	w      *world
	orders map[gift.OrderID]*placed
	known  []gift.OrderID // the orders, oldest first
	held   []holding
}

type placed struct {
	partner string
	claim   *gift.Claim
	order   gift.Order
	origin  fallbacklog.Position
	stirred bool // it has more records than its claim
}

type holding struct {
	partner string
	m       *queue.Message
}

func (p *machine) claim(t *rapid.T) {
	p.w.t = t
	for range rapid.IntRange(1, 3).Draw(t, "claims") {
		var for_ []string
		for range rapid.IntRange(1, 3).Draw(t, "orders") {
			for_ = append(for_, rapid.SampledFrom(partners).Draw(t, "partner"))
		}
		rec := p.w.newClaim(for_...)
		p.w.append(rec)
		p.add(rec, for_)
	}
}

// flood makes a backlog longer than an engine may keep in memory.
func (p *machine) flood(t *rapid.T) {
	p.w.t = t
	if len(p.known) > 400 || rapid.IntRange(0, 9).Draw(t, "flood") > 0 {
		t.Skip("no flood")
	}
	partner := rapid.SampledFrom(partners).Draw(t, "partner")
	var recs []*fallbacklog.Record
	for range 300 {
		recs = append(recs, p.w.newClaim(partner))
	}
	p.w.append(recs...)
	for _, rec := range recs {
		p.add(rec, []string{partner})
	}
}

func (p *machine) add(rec *fallbacklog.Record, partners []string) {
	for i, o := range rec.Claim.Orders {
		p.orders[o.ID] = &placed{partner: partners[i], claim: rec.Claim, order: o, origin: rec.At}
		p.known = append(p.known, o.ID)
	}
}

func (p *machine) receive(t *rapid.T) {
	p.w.t = t
	partner := rapid.SampledFrom(partners).Draw(t, "partner")
	m := p.w.tryReceive(p.w.lane(partner), time.Millisecond)
	if m == nil {
		return
	}
	s := p.w.story(m.Order.ID)
	if m.Fresh && len(s.Records) > 1 {
		t.Fatalf("order %v has outcomes and is called fresh", m.Order.ID)
	}
	if !p.w.engine.Exact {
		p.held = append(p.held, holding{partner: partner, m: m})
		return
	}
	for _, h := range p.held {
		if h.m.Order.ID == m.Order.ID {
			t.Fatalf("order %v is held and received once more", m.Order.ID)
		}
	}
	if s.State.Final() {
		t.Fatalf("order %v is %v and received", m.Order.ID, s.State)
	}
	if due := carrierDue(s); time.Now().Before(due) {
		t.Fatalf("order %v is received before it is due at %v", m.Order.ID, due)
	}
	if doubt := inDoubt(s); m.InDoubt != doubt {
		t.Fatalf("order %v: in doubt is %v, want %v", m.Order.ID, m.InDoubt, doubt)
	}
	if m.Attempts != s.Attempts {
		t.Fatalf("order %v: %d attempts, want %d", m.Order.ID, m.Attempts, s.Attempts)
	}
	p.held = append(p.held, holding{partner: partner, m: m})
}

// take draws a message that is held, and forgets it.
func (p *machine) take(t *rapid.T) (holding, queue.Lane) {
	p.w.t = t
	if len(p.held) == 0 {
		t.Skip("nothing is held")
	}
	i := rapid.IntRange(0, len(p.held)-1).Draw(t, "held")
	h := p.held[i]
	p.held = append(p.held[:i:i], p.held[i+1:]...)
	p.orders[h.m.Order.ID].stirred = true
	return h, p.w.lane(h.partner)
}

func (p *machine) settle(t *rapid.T) {
	h, l := p.take(t)
	kind := rapid.SampledFrom([]fallbacklog.Kind{fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Parked}).Draw(t, "kind")
	p.w.outcome(h.m, kind, fallbacklog.Event{Attempts: h.m.Attempts + 1})
	if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
		p.crash(t)
		return
	}
	p.w.must(l.Ack(context.Background(), h.m))
}

func (p *machine) retry(t *rapid.T) {
	h, l := p.take(t)
	kind := rapid.SampledFrom([]fallbacklog.Kind{fallbacklog.Deferred, fallbacklog.Unknown}).Draw(t, "kind")
	due := time.Now().Add(time.Duration(rapid.IntRange(-5, 20).Draw(t, "due")) * time.Millisecond)
	if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
		p.w.outcome(h.m, kind, fallbacklog.Event{Attempts: h.m.Attempts + 1, Due: due})
		p.crash(t)
		return
	}
	p.w.retry(l, h.m, kind, due)
}

// attempt writes the mark of a partner that cannot dedupe; the call goes on.
func (p *machine) attempt(t *rapid.T) {
	h, _ := p.take(t)
	h.m.Attempts++
	p.w.outcome(h.m, fallbacklog.Attempted, fallbacklog.Event{Attempts: h.m.Attempts, Began: time.Now()})
	p.held = append(p.held, h)
}

func (p *machine) reissue(t *rapid.T) {
	p.w.t = t
	if len(p.known) == 0 {
		t.Skip("no order")
	}
	o := p.orders[rapid.SampledFrom(p.known).Draw(t, "order")]
	o.stirred = true
	p.w.reissue(o.claim, o.order, o.origin)
}

// park is a person who takes an order out of the lane's hands.
func (p *machine) park(t *rapid.T) {
	p.w.t = t
	if len(p.known) == 0 {
		t.Skip("no order")
	}
	o := p.orders[rapid.SampledFrom(p.known).Draw(t, "order")]
	for _, h := range p.held {
		if h.m.Order.ID == o.order.ID {
			t.Skip("it is held")
		}
	}
	o.stirred = true
	m := &queue.Message{Claim: o.claim, Order: o.order, Origin: o.origin}
	p.w.outcome(m, fallbacklog.Parked, fallbacklog.Event{Attempts: p.w.story(o.order.ID).Attempts, Reason: "by hand"})
}

func (p *machine) crash(t *rapid.T) {
	p.w.crash(rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "keep"))
	p.held = nil
}

func (p *machine) restart(t *rapid.T) {
	p.w.t = t
	if rapid.Bool().Draw(t, "crash") {
		p.crash(t)
		return
	}
	p.w.restart()
	p.held = nil
}

func (p *machine) reopen(t *rapid.T) {
	p.w.t = t
	partner := rapid.SampledFrom(partners).Draw(t, "partner")
	p.w.must(p.w.lane(partner).Close())
	delete(p.w.lanes, partner)
	var left []holding
	for _, h := range p.held {
		if h.partner != partner {
			left = append(left, h)
		}
	}
	p.held = left
}

// check holds the watermarks against every order that is not settled.
func (p *machine) check(t *rapid.T) {
	p.w.t = t
	held := map[gift.OrderID]bool{}
	for _, h := range p.held {
		held[h.m.Order.ID] = true
	}
	for _, partner := range partners {
		s := p.w.status(p.w.lane(partner))
		for id, o := range p.orders {
			if o.partner != partner {
				continue
			}
			story := new(fallbacklog.Story)
			if o.stirred {
				story = p.w.story(id)
			}
			if story.State.Final() {
				continue
			}
			claimed := o.claim.ClaimedAt.Truncate(time.Millisecond)
			first := !s.Oldest.IsZero() && !claimed.Before(s.Oldest) || !claimed.Before(s.AsOf)
			due := carrierDue(story)
			scheduled := !due.IsZero() && !s.OldestDue.IsZero() && !due.Truncate(time.Millisecond).Before(s.OldestDue)
			// One that is held may be covered by either, whatever was written of it,
			// and so may any where the engine has not read what was written.
			if covered := scheduled || first && (due.IsZero() || held[id] || !p.w.engine.Exact); !covered {
				t.Fatalf("order %v (%v, claimed %v, due %v) is not covered by %+v", id, story.State, claimed, due, s)
			}
		}
	}
}

// carrierDue is when an order is due by its last deferred, unknown or reissued
// record; the zero time where it has none since its last final outcome.
func carrierDue(s *fallbacklog.Story) (due time.Time) {
	for _, rec := range s.Records {
		switch rec.Kind {
		case fallbacklog.Deferred, fallbacklog.Unknown:
			due = rec.Event.Due
		case fallbacklog.Reissued:
			due = rec.Time
		case fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Parked:
			due = time.Time{}
		}
	}
	return due
}

// inDoubt tells whether the last attempt may have been applied.
func inDoubt(s *fallbacklog.Story) (doubt bool) {
	for _, rec := range s.Records {
		if rec.Kind != fallbacklog.Reissued {
			doubt = rec.Kind == fallbacklog.Unknown || rec.Kind == fallbacklog.Attempted
		}
	}
	return doubt
}
