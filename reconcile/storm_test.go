package reconcile

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// storm is a cluster to which anything happens: claims at every node, feeders that
// lag, deliveries anywhere and more than once, messages that the broker loses, logs
// that arrive when they like, clocks that disagree, and two nodes that reconcile
// whenever they like.
type storm struct {
	t      *rapid.T
	f      *fleet
	names  []string
	orders []gift.OrderID
	claims map[gift.OrderID]*fallbacklog.Record
	unfed  map[gift.OrderID]map[string]bool // at which nodes
	final  map[gift.OrderID]bool
}

// TestNothingIsReissuedThatIsNotLost holds each reissue against what the test knows
// of the whole cluster: the order has no outcome in any log, arrived or not, and no
// lane has it or is to be given it. In the end everything that was lost is back.
func TestNothingIsReissuedThatIsNotLost(t *testing.T) {
	var total int
	rapid.Check(t, func(t *rapid.T) {
		s := &storm{
			t: t, names: []string{"a", "b", "c"}, claims: make(map[gift.OrderID]*fallbacklog.Record),
			unfed: make(map[gift.OrderID]map[string]bool), final: make(map[gift.OrderID]bool),
		}
		s.f = newFleetWith(t, &handRuns{now: func() time.Time { return s.f.at }}, s.names...)
		defer s.f.close()
		s.f.reconciles(s.f.nodes["b"])
		for _, name := range s.names {
			s.f.nodes[name].skew = time.Duration(rapid.IntRange(-20, 20).Draw(t, "skew")) * time.Second
		}
		s.f.broker.check = s.check
		deeds := []func(){s.claim, s.claim, s.feed, s.feed, s.deliver, s.deliver, s.deliver, s.lose, s.pass, s.pass, s.f.look, s.arrive, s.run}
		for range rapid.IntRange(1, 50).Draw(t, "deeds") {
			deeds[rapid.IntRange(0, len(deeds)-1).Draw(t, "deed")]()
		}
		total += len(s.f.broker.sent)
		s.calm()
		total += len(s.f.broker.sent)
	})
	if total == 0 {
		t.Fatal("nothing was ever reissued")
	}
}

func (s *storm) node() string { return rapid.SampledFrom(s.names).Draw(s.t, "node") }

func (s *storm) claim() {
	if len(s.orders) > 0 && rapid.IntRange(0, 4).Draw(s.t, "twice") == 0 {
		id := rapid.SampledFrom(s.orders).Draw(s.t, "of")
		s.take(s.node(), s.claims[id].Claim.User)
		return
	}
	s.take(s.node(), fmt.Sprint("u", len(s.orders)))
}

func (s *storm) take(node, user string) {
	c := s.f.claim(node, user)
	id := c.Claim.Orders[0].ID
	if s.claims[id] == nil {
		s.orders, s.claims[id], s.unfed[id] = append(s.orders, id), c, make(map[string]bool)
	}
	s.unfed[id][node] = true
}

func (s *storm) feed() { s.feedFrom(s.node()) }

func (s *storm) feedFrom(node string) {
	s.f.feed(node)
	for _, nodes := range s.unfed {
		delete(nodes, node)
	}
}

// due are the messages that a lane may receive now.
func (s *storm) due() (list []*parcel) {
	b := s.f.broker
	list = append(list, b.waiting...)
	for _, p := range b.deferred {
		if !p.due.After(s.f.at) {
			list = append(list, p)
		}
	}
	return list
}

func (s *storm) deliver() {
	list := s.due()
	if len(list) == 0 {
		return
	}
	p := rapid.SampledFrom(list).Draw(s.t, "message")
	id, node := p.msg.Order.ID, s.node()
	ack := func() {
		if rapid.IntRange(0, 4).Draw(s.t, "acknowledged") > 0 {
			s.f.broker.remove(p)
		}
	}
	if s.final[id] {
		ack()
		return
	}
	event := fallbacklog.Event{Attempts: 1, Due: s.f.at.Add(time.Duration(rapid.IntRange(1, 1800).Draw(s.t, "pause")) * time.Second), Reference: "R"}
	switch kind := rapid.SampledFrom([]fallbacklog.Kind{fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Deferred, fallbacklog.Unknown, fallbacklog.Parked}).Draw(s.t, "outcome"); kind {
	case fallbacklog.Attempted: // and the process is killed
		s.f.event(node, s.claims[id], kind, event)
	case fallbacklog.Deferred, fallbacklog.Unknown:
		s.f.event(node, s.claims[id], kind, event)
		s.f.broker.deferred = append(s.f.broker.deferred, &parcel{msg: p.msg, due: event.Due})
		ack()
	default:
		s.f.event(node, s.claims[id], kind, event)
		s.final[id] = true
		ack()
	}
}

func (s *storm) lose() {
	b := s.f.broker
	if all := slices.Concat(b.waiting, b.deferred); len(all) > 0 {
		b.remove(rapid.SampledFrom(all).Draw(s.t, "lost"))
	}
}

func (b *broker) remove(p *parcel) {
	is := func(other *parcel) bool { return other == p }
	b.waiting, b.deferred = slices.DeleteFunc(b.waiting, is), slices.DeleteFunc(b.deferred, is)
}

func (s *storm) pass() {
	s.f.pass(time.Duration(rapid.SampledFrom([]int{1, 30, 70, 300, 1200}).Draw(s.t, "seconds")) * time.Second)
}

func (s *storm) arrive() {
	if rapid.Bool().Draw(s.t, "all") {
		s.f.arrive(s.names...)
		return
	}
	s.f.arrive(s.node())
}

func (s *storm) run() {
	q := Request{}
	if rapid.Bool().Draw(s.t, "slot") {
		q = ten
	}
	s.f.run(q, rapid.SampledFrom([]string{"a", "b"}).Draw(s.t, "runner"))
}

// check looks at an order that is being reissued.
func (s *storm) check(id gift.OrderID) {
	b := s.f.broker
	switch {
	case s.final[id]:
		s.t.Fatalf("order %v has its outcome and is reissued", id)
	case len(s.unfed[id]) > 0:
		s.t.Fatalf("order %v is to be fed and is reissued", id)
	case slices.ContainsFunc(slices.Concat(b.waiting, b.deferred), func(p *parcel) bool { return p.msg.Order.ID == id }):
		s.t.Fatalf("order %v is in its lane and is reissued", id)
	}
}

// calm lets everything arrive: what is in the lanes is delivered, and what was lost
// is brought back and delivered, until every order has its one outcome.
func (s *storm) calm() {
	for _, name := range s.names {
		s.feedFrom(name)
	}
	s.f.pass(time.Hour) // longer than any pause
	for range 3 {
		for _, p := range append(s.f.broker.waiting, s.f.broker.deferred...) {
			if id := p.msg.Order.ID; !s.final[id] {
				s.f.event(s.node(), s.claims[id], fallbacklog.Granted, fallbacklog.Event{Attempts: 1, Reference: "R"})
				s.final[id] = true
			}
		}
		s.f.broker.forget()
		s.f.settle()
		s.f.run(Request{})
	}
	report := s.f.run(Request{})
	c := report.Classes
	if n := int64(len(s.orders)); !report.Complete || !report.Done || report.Reissued != 0 || report.Expected != n || c.Matched+c.Refused+c.Parked != n || c.Unexpected+c.Duplicate > 0 {
		s.t.Fatalf("in the end %+v of %d orders, reissued %d, incomplete %q, gate %q", c, n, report.Reissued, report.Incomplete, report.Gate)
	}
}

// handRuns is a history in memory of runs by hand alone.
type handRuns struct {
	now  func() time.Time
	list []ledger.Run
}

func (h *handRuns) StartRun(_ context.Context, s ledger.RunStart) (ledger.Run, error) {
	if slices.ContainsFunc(h.list, func(r ledger.Run) bool { return r.ID == s.ID }) {
		return ledger.Run{}, ledger.ErrRunExists
	}
	h.list = append(h.list, ledger.Run{ID: s.ID, Node: s.Node, By: s.By, State: ledger.RunRunning, Started: h.now()})
	return h.list[len(h.list)-1], nil
}

func (h *handRuns) RenewRun(context.Context, string, int64, time.Duration) error { return nil }

func (h *handRuns) FinishRun(_ context.Context, id string, _ int64, end ledger.RunEnd) error {
	r := &h.list[slices.IndexFunc(h.list, func(r ledger.Run) bool { return r.ID == id })]
	r.State, r.Finished, r.Err, r.Headlines = ledger.RunFinished, h.now(), end.Err, end.Headlines
	return nil
}

func (h *handRuns) LastSlot(context.Context) (ledger.Slots, error) { return ledger.Slots{}, nil }

func (h *handRuns) Runs(context.Context, ledger.Cursor, int) ([]ledger.Run, ledger.Cursor, error) {
	list := slices.Clone(h.list)
	slices.Reverse(list)
	return list, ledger.Cursor{}, nil
}
