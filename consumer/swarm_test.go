package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/promises"
	"manna/ledger"
)

// swarm is consumers with a log each that share a queue, a ledger and partners. Its
// time is that of a bubble of testing/synctest: consumers wait for many seconds before
// they hold an attempt for one that came to nothing.
type swarm struct {
	t        *testing.T
	dir      string
	broker   *broker
	open     func(node string) ledger.Cluster
	members  []*member
	partners []*partnertest.Partner
	seats    map[string]seat
	rates    map[string]gift.Rate
	accepted map[gift.ClaimID]bool
	skews    map[string]time.Duration // how far nodes' clocks are ahead
	calls    sync.WaitGroup           // what partners are at
	epochs   int64
	users    int
	hook     func(m *member, at string, order gift.OrderID)
	varies   bool         // claims may be there with several gifts
	away     atomic.Bool  // the ledger
	asked    atomic.Int32 // how often the ledger was asked about one order
	logger   *slog.Logger // of the members; may be nil
}

// swarming runs a test of a swarm, in virtual time and beside others. The swarm has a
// ledger as opening makes it, or one in memory.
func swarming(t *testing.T, fresh opening, test func(t *testing.T, s *swarm)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newSwarm(t, fresh)) })
}

func newSwarm(t *testing.T, fresh opening) *swarm {
	s := &swarm{
		t: t, dir: t.TempDir(), broker: &broker{changed: make(chan struct{})}, seats: make(map[string]seat),
		skews: make(map[string]time.Duration), rates: make(map[string]gift.Rate), accepted: make(map[gift.ClaimID]bool),
	}
	m := newMemory()
	open := func(_ string, now func() time.Time) ledger.Cluster { return m.open(now) }
	if fresh != nil {
		open = fresh(t)
	}
	s.open = func(node string) ledger.Cluster { return open(node, time.Now) }
	t.Cleanup(s.end)
	return s
}

// end kills every process, and waits until nothing is at work any more.
func (s *swarm) end() {
	for _, m := range s.members {
		m.die()
	}
	s.calls.Wait()
}

// partner adds a scripted partner.
func (s *swarm) partner(name string, script partnertest.Script, at seat) *partnertest.Partner {
	script.Name = name
	p := partnertest.New(script)
	if at.rate == 0 {
		at.rate = 1000
	}
	if at.timeout == 0 {
		at.timeout = 1500 * time.Millisecond
	}
	if at.retry == nil {
		at.retry = slices.Repeat([]time.Duration{500 * time.Millisecond}, 12)
	}
	s.partners = append(s.partners, p)
	s.seats[name], s.rates[name] = at, at.rate
	return p
}

// member is a node of a swarm.
type member struct {
	*swarm
	name   string
	skew   time.Duration // of its clock
	dir    string
	log    *fallbacklog.Log
	ledger *reach
	holder ledger.Holder
	lanes  *consumer.Consumer
	shown  *prometheus.Registry
	lags   atomic.Bool   // its log is not taken in
	dead   chan struct{} // closed when the process is killed
	kill   func()
	parts  sync.WaitGroup // what runs of it
	close  func()         // lets its ledger go
}

// join starts a node, or its next process.
func (s *swarm) join(name string) *member {
	s.t.Helper()
	m := &member{swarm: s, name: name, skew: s.skews[name], dir: filepath.Join(s.dir, strconv.Itoa(len(s.members)))}
	for _, old := range s.members {
		if old.name == name {
			old.die()
			m.dir = old.dir
		}
	}
	var err error
	if m.log, err = fallbacklog.Open(fallbacklog.Options{Dir: m.dir, Node: name, SegmentBytes: fallbacklog.MinSegment, Now: m.now}); err != nil {
		s.t.Fatal(err)
	}
	s.epochs++
	m.holder = ledger.Holder{Node: name, Epoch: s.epochs}
	m.dead = make(chan struct{})
	m.ledger = &reach{Cluster: s.open(name), m: m}
	follower, err := ledger.NewFollower(ledger.FollowerOptions{Log: m.log, Store: m.ledger, Now: m.now})
	if err != nil {
		s.t.Fatal(err)
	}
	m.shown = prometheus.NewRegistry()
	o := consumer.Options{Log: m.log, Queue: &share{m}, Now: m.now, Logger: s.logger, Metrics: m.shown, Cluster: &consumer.Cluster{
		Marks: m.ledger, Outcomes: m.ledger, Stock: m.ledger, Holder: func() (ledger.Holder, error) { return m.holder, nil },
	}}
	if s.varies {
		o.Cluster.Choices, o.Cluster.Varies = m.ledger, func(*gift.Claim) bool { return true }
	}
	for _, p := range s.partners {
		o.Partners = append(o.Partners, m.at(p))
	}
	if m.lanes, err = consumer.New(o); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.close = sync.OnceFunc(func() { m.ledger.Cluster.Close() })
	m.kill = sync.OnceFunc(func() {
		// From here on nothing of it reaches anything.
		close(m.dead)
		m.log.Close()
		cancel()
		s.broker.lose(m)
	})
	s.members = append(s.members, m)
	m.parts.Go(func() { m.lanes.Run(ctx) })
	m.parts.Go(func() { follower.Run(ctx) })
	return m
}

// now is the node's clock.
func (m *member) now() time.Time { return time.Now().Add(m.skew) }

// die kills the process and waits until nothing of it runs.
func (m *member) die() {
	m.kill()
	m.parts.Wait()
	m.close()
}

func (m *member) alive() bool {
	select {
	case <-m.dead:
		return false
	default:
		return true
	}
}

var errDead = errors.New("this process is dead")

// passes is called where a process may be killed.
func (m *member) passes(at string, order gift.OrderID) {
	if m.hook != nil && m.alive() {
		m.hook(m, at, order)
	}
}

func (m *member) at(p *partnertest.Partner) *consumer.Partner {
	name := p.Books().Partner
	at := m.seats[name]
	a := &inhouse{p, delivery.Traits{Idempotent: at.idempotent, Queries: at.queries, Timeout: at.timeout, SettlesWithin: 3 * at.timeout}, &m.calls}
	b, err := breaker.New("partner/"+name, breaker.Settings{Window: 4 * at.timeout, FailureRatio: 0.95, MinCalls: 50, SlowCall: at.timeout, OpenFor: time.Second, Timeout: at.timeout})
	if err != nil {
		m.t.Fatal(err)
	}
	// Each node has its part of the rate, as a shared quota gives it.
	return &consumer.Partner{Name: name, Adapter: &mortal{a, m}, Rate: at.rate / 4, MaxInFlight: 50, Retry: at.retry, Breaker: b}
}

// mortal is an adapter whose process may be killed before and after a call.
type mortal struct {
	delivery.Adapter
	m *member
}

func (a *mortal) Grant(ctx context.Context, c *gift.Claim, o gift.Order) gift.Outcome {
	a.m.passes("calling", o.ID)
	if !a.m.alive() {
		return gift.Deferred{Code: "dead"}
	}
	outcome := a.Adapter.Grant(ctx, c, o)
	a.m.passes("called", o.ID)
	return outcome
}

func (a *mortal) Query(ctx context.Context, id gift.OrderID) delivery.Standing {
	if !a.m.alive() {
		return delivery.Unanswered{Code: "dead"}
	}
	return a.Adapter.Query(ctx, id)
}

// reach is the ledger as a process reaches it.
type reach struct {
	ledger.Cluster
	m *member
}

func (r *reach) gone() error {
	if !r.m.alive() {
		return errDead
	}
	if r.m.away.Load() {
		return fmt.Errorf("the test took it away: %w", ledger.ErrUnavailable)
	}
	return nil
}

func (r *reach) Mark(ctx context.Context, attempts []ledger.Attempt) ([]ledger.Standing, error) {
	if err := r.gone(); err != nil {
		return nil, err
	}
	standings, err := r.Cluster.Mark(ctx, attempts)
	for _, a := range attempts {
		r.m.passes("marked", a.Order)
	}
	if gone := r.gone(); gone != nil {
		return nil, gone // its answer is lost
	}
	return standings, err
}

func (r *reach) Choose(ctx context.Context, choices []ledger.Choice) ([]ledger.Choice, error) {
	if err := r.gone(); err != nil {
		return nil, err
	}
	stand, err := r.Cluster.Choose(ctx, choices)
	if gone := r.gone(); gone != nil {
		return nil, gone // its answer is lost
	}
	return stand, err
}

func (r *reach) Conclude(ctx context.Context, ends []ledger.Conclusion) error {
	for _, e := range ends {
		r.m.passes("written", e.Order)
	}
	if err := r.gone(); err != nil {
		return err
	}
	return r.Cluster.Conclude(ctx, ends)
}

func (r *reach) Release(ctx context.Context, attempts []ledger.Attempt) error {
	if err := r.gone(); err != nil {
		return err
	}
	return r.Cluster.Release(ctx, attempts)
}

func (r *reach) Highest(ctx context.Context, orders []gift.OrderID) (map[gift.OrderID]ledger.Standing, error) {
	if err := r.gone(); err != nil {
		return nil, err
	}
	return r.Cluster.Highest(ctx, orders)
}

func (r *reach) Order(ctx context.Context, id gift.OrderID) (ledger.OrderRow, error) {
	r.m.asked.Add(1)
	if err := r.gone(); err != nil {
		return ledger.OrderRow{}, err
	}
	return r.Cluster.Order(ctx, id)
}

func (r *reach) RefundRefused(ctx context.Context, limit int) (int, error) {
	if err := r.gone(); err != nil {
		return 0, err
	}
	return r.Cluster.RefundRefused(ctx, limit)
}

var errLags = errors.New("the test holds it back")

func (r *reach) Apply(ctx context.Context, b *ledger.Batch) error {
	if err := r.gone(); err != nil {
		return err
	}
	if r.m.lags.Load() {
		return errLags
	}
	return r.Cluster.Apply(ctx, b)
}

func (r *reach) Seen(ctx context.Context, node string, asOf time.Time) error {
	if r.m.lags.Load() {
		return errLags
	}
	return r.Cluster.Seen(ctx, node, asOf)
}

// claim has a node accept n claims of one order for each partner named, and feeds
// them.
func (s *swarm) claim(m *member, n int, partners ...string) []*gift.Claim {
	s.t.Helper()
	claims := s.tryClaim(m, n, partners...)
	if claims == nil {
		s.t.Fatal("the node does not accept claims")
	}
	return claims
}

// tryClaim is claim at a node that may be killed meanwhile; then nobody was told that
// the claims were accepted.
func (s *swarm) tryClaim(m *member, n int, partners ...string) (claims []*gift.Claim) {
	campaign := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: 24 * time.Hour}
	g := &gift.Gift{Name: "g"}
	for _, p := range partners {
		g.Items = append(g.Items, gift.Item{Name: "item-" + p, Partner: p, Quantity: 1, Amount: 100, Currency: "CNY"})
	}
	var recs []*fallbacklog.Record
	for range n {
		s.users++
		user := fmt.Sprint("u", s.users)
		c := campaign.NewClaim(campaign.ID.ClaimID("", user, ""), "", "", user, g, "", nil, m.now().UTC())
		claims = append(claims, c)
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: c})
	}
	if err := m.log.Append(s.t.Context(), recs...); err != nil {
		return nil
	}
	for _, c := range claims {
		s.accepted[c.ID] = true
		s.broker.put(c)
	}
	return claims
}

// takeUp sends orders on their way again, as a person does at a node a while after
// they were parked.
func (s *swarm) takeUp(m *member, claims ...*gift.Claim) {
	s.t.Helper()
	time.Sleep(20 * time.Second)
	for _, c := range claims {
		if !s.tryTakeUp(m, c) {
			s.t.Fatal("the node does not take an order up")
		}
	}
}

func (s *swarm) tryTakeUp(m *member, c *gift.Claim) bool {
	o := c.Orders[0]
	rec := &fallbacklog.Record{Kind: fallbacklog.Reissued, Event: &fallbacklog.Event{Order: o.ID, Claim: c.ID, Campaign: c.Campaign, Partner: o.Partner, Run: fallbacklog.RunPerson + "test"}}
	if err := m.log.Append(s.t.Context(), rec); err != nil {
		return false
	}
	s.broker.put(c)
	return true
}

// states folds what all logs say of a claim's orders.
func (s *swarm) states(c *gift.Claim) (states []gift.State) {
	s.t.Helper()
	for _, o := range c.Orders {
		state, last := gift.StateAccepted, time.Time{}
		for _, m := range s.members {
			if !m.alive() {
				continue
			}
			story, err := m.log.Told(o.ID)
			if err != nil {
				break // it was killed meanwhile
			}
			says, updated := story.State, story.Updated.Add(-m.skew)
			if n := len(story.Records); n == 0 || story.Records[n-1].Kind == fallbacklog.Claimed || state == gift.StateGranted || state == gift.StateRefused && says != gift.StateGranted {
				continue
			}
			if says == gift.StateGranted || says == gift.StateRefused || updated.After(last) {
				state, last = says, updated
			}
		}
		states = append(states, state)
	}
	return states
}

// settled waits until every order is final and the queue is empty.
func (s *swarm) settled(claims ...*gift.Claim) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.tell(claims, gift.State.Final)
		}
	}()
	s.until("every order is final", func() bool {
		if s.broker.left() > 0 {
			return false
		}
		for _, c := range claims {
			for _, state := range s.states(c) {
				if !state.Final() {
					return false
				}
			}
		}
		return true
	})
}

// tell logs what is known of orders that have not come to the end they should.
func (s *swarm) tell(claims []*gift.Claim, right func(gift.State) bool) {
	for _, c := range claims {
		for i, state := range s.states(c) {
			if right(state) {
				continue
			}
			for _, m := range s.members {
				if !m.alive() {
					continue
				}
				story, _ := m.log.Told(c.Orders[i].ID)
				for _, rec := range story.Records {
					what := rec.Kind.String()
					if e := rec.Event; e != nil {
						what += fmt.Sprintf(", attempt %d, %s %s %s", e.Attempts, e.Code, e.Reason, e.Run)
					}
					s.t.Logf("order %v of %s, node %s, %v: %s", c.Orders[i].ID, c.Orders[i].Partner, m.name, rec.Time.Format(time.StampMilli), what)
				}
			}
			highest, _ := s.open("x").Highest(s.t.Context(), []gift.OrderID{c.Orders[i].ID})
			s.t.Logf("order %v: %+v", c.Orders[i].ID, highest)
		}
	}
}

// until waits for something that comes about by itself.
func (s *swarm) until(what string, is func() bool) {
	s.t.Helper()
	const patience = 5 * time.Minute
	for deadline := time.Now().Add(patience); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s; %d messages are left", patience, what, s.broker.left())
		}
	}
}

// check ends all and holds the promises against the partners' books.
func (s *swarm) check() *promises.Verdict {
	s.t.Helper()
	s.end()
	skews := make(map[string]time.Duration)
	for _, m := range s.members {
		skews[m.dir] = m.skew
	}
	e := promises.Evidence{Rates: s.rates, Accepted: s.accepted}
	for dir, skew := range skews {
		// What came first is judged by the time that was, not by the clocks.
		e.Logs = append(e.Logs, func(yield func(*fallbacklog.Record, error) bool) {
			for rec, err := range fallbacklog.Records(disk.OS{}, dir) {
				if err == nil {
					rec.Time = rec.Time.Add(-skew)
				}
				if !yield(rec, err) {
					return
				}
			}
		})
	}
	for _, p := range s.partners {
		e.Books = append(e.Books, p.Books())
	}
	v := promises.Check(e)
	for _, p := range v.Promises {
		if !p.Kept {
			s.t.Errorf("promise %d, %s: %s", p.Number, p.Name, p.Detail)
		}
	}
	for _, example := range v.Examples {
		s.t.Log(example)
	}
	return v
}
