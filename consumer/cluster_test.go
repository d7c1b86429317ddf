package consumer_test

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
	"manna/internal/notice"
	"manna/ledger"
)

// opening makes an empty ledger for a swarm, which each node opens; nil: one in memory.
type (
	opening func(t *testing.T) opened
	opened  func(node string, now func() time.Time) ledger.Cluster
)

// Partners that cannot dedupe and apply what they seem not to have.
var liars = map[string]partnertest.Script{
	"applies and times out": {ApplyThenTimeout: 0.3},
	"applies and says 500":  {ApplyThen500: 0.5},
	"applies and resets":    {ApplyThenReset: 0.5},
	"applies late":          {Late: 0.3, LateBy: 1000 * ms},
}

func TestOrderThatTwoHoldIsNeverDoubled(t *testing.T) { neverDoubled(t, nil) }

func neverDoubled(t *testing.T, open opening) {
	for name, script := range liars {
		for _, queries := range []bool{false, true} {
			if name == "applies late" && !queries {
				continue // nobody can tell that from a call that came to nothing
			}
			t.Run(name+map[bool]string{true: ", answers queries"}[queries], func(t *testing.T) {
				swarming(t, open, func(t *testing.T, s *swarm) {
					s.partner("p", script, seat{queries: queries})
					a := s.join("a")
					s.join("b")
					s.join("c")
					claims := s.claim(a, 40, "p")
					for _, c := range claims {
						s.broker.put(c)
					}
					s.settled(claims...)
					if v := s.check(); v.Granted == 0 || queries && v.Parked > 0 || !queries && v.Parked == 0 {
						t.Errorf("%d granted, %d parked: not what the script is for", v.Granted, v.Parked)
					}
				})
			})
		}
	}
}

func TestProcessKilledInTheMiddleOfADelivery(t *testing.T) { killed(t, nil) }

func killed(t *testing.T, open opening) {
	for _, at := range []string{"marked", "calling", "called", "written", "acking"} {
		for name, seat := range map[string]seat{"knows neither": {}, "answers queries": {queries: true}, "dedupes": {idempotent: true}} {
			if seat.idempotent && (at == "marked" || at == "written") {
				continue // it needs no marks
			}
			t.Run(at+", "+name, func(t *testing.T) {
				swarming(t, open, func(t *testing.T, s *swarm) {
					s.partner("p", partnertest.Script{Dedupe: seat.idempotent}, seat)
					var killed atomic.Bool
					gone := make(chan struct{})
					s.hook = func(m *member, where string, _ gift.OrderID) {
						if m.name == "a" && where == at && killed.CompareAndSwap(false, true) {
							m.kill()
							close(gone)
						}
					}
					a := s.join("a")
					claims := s.claim(a, 30, "p")
					<-gone
					s.join("b")
					// The same node's next process has another epoch.
					s.join("a")
					s.settled(claims...)
					v := s.check()
					// Nothing but what was under way may need a person.
					if v.Parked > 0 && (seat.queries || seat.idempotent) {
						t.Errorf("%d are parked", v.Parked)
					}
					if v.Granted == 0 {
						t.Error("nothing was granted")
					}
				})
			})
		}
	}
}

func TestOrderThatEndedLongAgoIsNotCalledForAgain(t *testing.T) {
	for name, script := range map[string]partnertest.Script{
		"granted": {}, "refused": {Refuse: 1}, "parked": {Error500: 1},
	} {
		t.Run(name, func(t *testing.T) {
			swarming(t, nil, func(t *testing.T, s *swarm) {
				p := s.partner("p", script, seat{})
				a := s.join("a")
				claims := s.claim(a, 10, "p")
				s.settled(claims...)
				s.broker.only("b")
				calls := p.Books().Arrivals
				time.Sleep(time.Hour)
				s.join("b") // has nothing of them in its log
				s.join("a")
				for _, c := range claims {
					s.broker.put(c)
				}
				s.until("the copies are dropped", func() bool {
					return s.broker.left() == 0
				})
				if n := p.Books().Arrivals; n != calls {
					t.Errorf("%d calls for orders that had ended", n-calls)
				}
				s.check()
			})
		})
	}
}

func TestLedgerAway(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		p := s.partner("p", partnertest.Script{}, seat{})
		s.partner("dedupes", partnertest.Script{Dedupe: true, ApplyThen500: 0.3, FaultCalls: 1}, seat{idempotent: true})
		a := s.join("a")
		s.join("b")
		s.away.Store(true)
		waiting := s.claim(a, 30, "p")
		on := s.claim(a, 30, "dedupes")
		s.until("orders of the partner that dedupes end", func() bool {
			return !slices.ContainsFunc(on, func(c *gift.Claim) bool { return !s.states(c)[0].Final() })
		})
		if n := p.Books().Arrivals; n > 0 {
			t.Fatalf("%d calls without a mark", n)
		}
		s.away.Store(false)
		s.settled(slices.Concat(waiting, on)...)
		if v := s.check(); v.Granted != 60 {
			t.Errorf("%d of 60 granted", v.Granted)
		}
	})
}

// A lane that stands still because the ledger is away says so in its status and in a
// metric, and in a line when that begins and one when it is over.
func TestLaneSaysThatItWaitsForTheLedger(t *testing.T) {
	for name, c := range map[string]struct {
		seat   seat
		varies bool
		waits  bool
	}{
		"its partner cannot dedupe":           {waits: true},
		"its claims may have several gifts":   {seat: seat{idempotent: true}, varies: true, waits: true},
		"its partner dedupes, one gift alone": {seat: seat{idempotent: true}},
	} {
		t.Run(name, func(t *testing.T) {
			swarming(t, nil, func(t *testing.T, s *swarm) {
				var said lines
				s.varies, s.logger = c.varies, slog.New(slog.NewTextHandler(&said, nil))
				s.partner("p", partnertest.Script{Dedupe: c.seat.idempotent}, c.seat)
				a := s.join("a")
				s.away.Store(true)
				claims := s.claim(a, 5, "p")
				time.Sleep(time.Minute)
				shows := func(waits bool) {
					t.Helper()
					_, waiting := a.lanes.Waiting()["p"]
					told := a.lanes.Lanes(t.Context())[0].Waits
					if waiting != waits || strings.Contains(told, "the test took it away") != waits || a.metric("manna_lane_waits_for_ledger") != map[bool]float64{true: 1}[waits] {
						t.Errorf("waiting %v, %q, metric %v: want %v", waiting, told, a.metric("manna_lane_waits_for_ledger"), waits)
					}
				}
				shows(c.waits)
				s.away.Store(false)
				s.settled(claims...)
				shows(false)
				time.Sleep(time.Minute)
				once := map[bool]int{true: 1}[c.waits]
				if began, over := said.count("ERROR", "orders of the lane wait for the ledger"), said.count("INFO", "orders of the lane do not wait"); began != once || over != once {
					t.Errorf("%d lines say that it began and %d that it is over, want %d each", began, over, once)
				}
				s.check()
			})
		})
	}
}

// metric is the value of a gauge that has one lane.
func (m *member) metric(name string) float64 {
	m.t.Helper()
	families, err := m.shown.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	m.t.Fatalf("there is no metric %s", name)
	return 0
}

// A ledger that answers every other time is a few lines, and the last says how it stands.
func TestLedgerThatComesAndGoesIsAFewLines(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		var said lines
		s.logger = slog.New(slog.NewTextHandler(&said, nil))
		s.partner("p", partnertest.Script{}, seat{})
		a := s.join("a")
		var claims []*gift.Claim
		began := time.Now()
		for i := range 60 {
			s.away.Store(i%2 == 0)
			claims = append(claims, s.claim(a, 5, "p")...)
			time.Sleep(500 * time.Millisecond)
		}
		s.settled(claims...)
		time.Sleep(time.Minute)
		// Two at once, one for each interval, and the one that ends it, of lane and cluster.
		most := 2 * (2 + int(time.Since(began)/notice.Every))
		if n := said.count("ERROR", "") + said.count("INFO", ""); n < 4 || n > most {
			t.Errorf("%d lines, want at most %d:\n%s", n, most, said.b.String())
		}
		for _, over := range []string{"what the cluster's consumers share is back", "do not wait for the ledger any more"} {
			if said.count("INFO", over) == 0 {
				t.Errorf("no line says %q", over)
			}
		}
		s.check()
	})
}

// A mark that is old when its call's turn comes is made anew, and the order is
// delivered all the same.
func TestMarkThatWaitedTooLong(t *testing.T) {
	t.Run("the ledger is slow", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			p := s.partner("p", partnertest.Script{}, seat{})
			slow := 3
			s.hook = func(_ *member, at string, _ gift.OrderID) {
				if at == "marked" && slow > 0 {
					slow--
					time.Sleep(8 * time.Second)
				}
			}
			claims := s.claim(s.join("a"), 1, "p")
			s.settled(claims...)
			if v := s.check(); v.Granted != 1 || p.Books().Arrivals != 1 {
				t.Errorf("%d granted by %d calls", v.Granted, p.Books().Arrivals)
			}
		})
	})
	t.Run("the rate is low", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			s.partner("p", partnertest.Script{}, seat{rate: 0.4}) // a call takes longer to come than a mark lasts
			claims := s.claim(s.join("a"), 4, "p")
			s.settled(claims...)
			if v := s.check(); v.Granted != 4 {
				t.Errorf("%d of 4 granted", v.Granted)
			}
		})
	})
}

// A process that stands still between its mark and its call finds, when it goes on,
// that another has made the attempt.
func TestProcessThatStoodStillDoesNotCall(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		p := s.partner("p", partnertest.Script{}, seat{queries: true})
		var stood atomic.Bool
		var claims []*gift.Claim
		fed := make(chan struct{})
		s.hook = func(m *member, at string, id gift.OrderID) {
			if m.name != "a" || at != "marked" || !stood.CompareAndSwap(false, true) {
				return
			}
			<-fed
			s.broker.only("b")
			s.broker.put(claims[0])
			s.until("the other grants it", func() bool { return p.Books().Count(id) > 0 })
		}
		a := s.join("a")
		s.join("b")
		s.broker.only("a")
		claims = s.claim(a, 1, "p")
		close(fed)
		s.until("it is granted", func() bool { return s.states(claims[0])[0] == gift.StateGranted })
		s.broker.only("")
		s.settled(claims...)
		s.check()
	})
}

func TestCopyWaitsWhileTheCallIsUnderWay(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		s.partner("p", partnertest.Script{Latency: partnertest.Span{Min: 800 * ms, Max: 900 * ms}}, seat{})
		a := s.join("a")
		s.join("b")
		claims := s.claim(a, 20, "p")
		for _, c := range claims {
			s.broker.put(c)
		}
		s.settled(claims...)
		s.noneParked(claims)
		s.check()
	})
}

// The ledger does not have yet that an order is parked: its copy is not taken for one
// that a person has sent on its way again.
func TestCopyOfAParkedOrderWaitsForALedgerThatLags(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		p := s.partner("p", partnertest.Script{ApplyThen500: 1}, seat{})
		a := s.join("a")
		b := s.join("b")
		a.lags.Store(true)
		s.broker.only("a")
		claims := s.claim(b, 5, "p")
		s.settled(claims...)
		s.until("the ledger has the claims", func() bool {
			_, err := b.ledger.Order(t.Context(), claims[4].Orders[0].ID)
			return err == nil
		})
		s.broker.only("b")
		for _, c := range claims {
			s.broker.put(c)
		}
		s.until("each copy was looked at several times", func() bool {
			return s.broker.deferrals() >= 20
		})
		if n := p.Books().Arrivals; n != 5 {
			t.Errorf("%d calls, want 5", n)
		}
		for _, c := range claims {
			if story, err := b.log.Told(c.Orders[0].ID); err != nil || len(story.Records) > 1 {
				t.Errorf("node b has %d records of an order beside its claim, %v", len(story.Records)-1, err)
			}
		}
		a.lags.Store(false)
		s.until("the copies are dropped", func() bool {
			return s.broker.left() == 0
		})
		s.check()
	})
}

// A node whose disk was lost knows nothing of what it did: its mark tells.
func TestNodeThatLostItsLogDoesNotRepeatACall(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		s.partner("p", partnertest.Script{}, seat{})
		var killed atomic.Bool
		s.hook = func(m *member, at string, _ gift.OrderID) {
			if m.name == "a" && at == "called" && killed.CompareAndSwap(false, true) {
				m.kill()
			}
		}
		b := s.join("b")
		s.broker.only("a")
		claims := s.claim(b, 5, "p")
		a := s.join("a")
		<-a.dead
		a.die()
		a.name = "lost"
		s.join("a")
		s.settled(claims...)
		s.check()
	})
}

func TestPersonTakesAnOrderUpAtAnotherNode(t *testing.T) {
	t.Run("in doubt", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			s.partner("p", partnertest.Script{Error500: 1, FaultCalls: 1}, seat{})
			s.join("a")
			b := s.join("b")
			claims := s.claim(b, 20, "p")
			s.settled(claims...)
			s.takeUp(b, claims...)
			for _, c := range claims {
				s.broker.put(c) // and each comes twice
			}
			s.granted(claims)
			if v := s.check(); v.Granted != 20 {
				t.Errorf("%d of 20 granted", v.Granted)
			}
		})
	})
	t.Run("its attempts begin anew", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			p := s.partner("p", partnertest.Script{Answer: 503}, seat{retry: []time.Duration{time.Second, time.Second}})
			s.join("a")
			b := s.join("b")
			claims := s.claim(b, 1, "p")
			s.settled(claims...)
			defer func() {
				if t.Failed() {
					t.Logf("%d calls", p.Books().Arrivals)
					s.tell(claims, func(gift.State) bool { return false })
				}
			}()
			for lives := 2; lives <= 3; lives++ {
				s.takeUp(b, claims[0])
				s.until("it is parked again", func() bool { return p.Books().Arrivals == 3*lives && s.broker.left() == 0 })
			}
			if v := s.check(); v.Parked != 1 {
				t.Errorf("verdict %+v: want it parked", v)
			}
		})
	})
}

// granted waits until claims of one order are granted.
func (s *swarm) granted(claims []*gift.Claim) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.tell(claims, func(state gift.State) bool { return state == gift.StateGranted })
		}
	}()
	s.until("every order is granted", func() bool {
		return s.broker.left() == 0 && !slices.ContainsFunc(claims, func(c *gift.Claim) bool { return s.states(c)[0] != gift.StateGranted })
	})
}

// Two consumers refuse the parts of packs, one of them dies and the ledger is away:
// the gifts of claims that came to nothing are in the stock again, and no others.
func TestRefusedPacksGoBackToTheStock(t *testing.T) { refusedPacks(t, nil) }

func refusedPacks(t *testing.T, open opening) {
	swarming(t, open, func(t *testing.T, s *swarm) {
		s.partner("p", partnertest.Script{Dedupe: true, Refuse: 0.7, Seed: 1}, seat{idempotent: true})
		s.partner("q", partnertest.Script{Refuse: 0.7, Seed: 2}, seat{})
		var acked atomic.Int32
		s.hook = func(m *member, at string, _ gift.OrderID) {
			if m.name == "a" && at == "acking" && acked.Add(1) == 20 {
				m.kill()
			}
		}
		a := s.join("a")
		b := s.join("b")
		claims := s.claim(b, 60, "p", "q")
		<-a.dead
		s.away.Store(true)
		time.Sleep(time.Second)
		s.away.Store(false)
		s.join("a")
		s.settled(claims...)
		var whole int64
		for _, c := range claims {
			if !slices.ContainsFunc(s.states(c), func(state gift.State) bool { return state != gift.StateRefused }) {
				whole++
			}
		}
		var pool ledger.Pool
		s.until("the gifts have gone back", func() bool {
			pool, _, _ = b.ledger.Leases(t.Context(), ledger.StockKey{Campaign: "k", Gift: "g"})
			return pool.Refunded >= whole
		})
		if pool.Refunded != whole || whole == 0 {
			t.Errorf("%d claims were refunded, %d were refused whole", pool.Refunded, whole)
		}
		s.check()
	})
}

// Whatever is killed, comes twice, is away or is taken up again, and whenever, and
// whatever the clocks show: the promises hold.
func TestAnythingAtAnyTime(t *testing.T) { anything(t, nil, 12) }

func anything(t *testing.T, open opening, rounds int) {
	for range rounds {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Logf("seed %d", seed)
			d := &dice{random: rand.New(rand.NewPCG(seed, 0))}
			swarming(t, open, func(t *testing.T, s *swarm) {
				liar := partnertest.Script{
					Seed: seed, ApplyThenTimeout: 0.05, ApplyThen500: 0.1, ApplyThenReset: 0.1, Timeout: 0.05, Error500: 0.05, TooMany: 0.05,
					Refuse: 0.1, Latency: partnertest.Span{Max: 100 * ms}, RetryAfter: 1000 * ms,
				}
				names := []string{"neither", "queries", "dedupes"}
				s.partner("neither", liar, seat{})
				s.partner("queries", liar, seat{queries: true})
				liar.Dedupe = true
				s.partner("dedupes", liar, seat{idempotent: true})
				s.hook = func(m *member, _ string, _ gift.OrderID) {
					if d.comesUp(60) {
						m.kill()
					}
				}
				nodes := []string{"a", "b", "c"}
				// What a person says and what comes of it are told apart by the clocks.
				people := d.roll(2) == 0
				for _, name := range nodes {
					if !people {
						s.skews[name] = time.Duration(d.roll(int(apart)))
					}
				}
				for _, name := range nodes {
					s.join(name)
				}
				current := func() *member {
					for _, m := range slices.Backward(s.members) {
						if m.alive() {
							return m
						}
					}
					return s.join("a")
				}
				var claims []*gift.Claim
				for range 12 {
					m := current()
					if made := s.tryClaim(m, 5, names[d.roll(3)]); made != nil {
						claims = append(claims, made...)
					}
					for _, c := range claims {
						switch {
						case d.comesUp(20):
							s.broker.put(c)
						case people && d.comesUp(4) && s.states(c)[0] == gift.StateParked && !s.booked(c):
							// A person has looked into the partner's books before.
							s.tryTakeUp(current(), c)
						}
					}
					s.away.Store(d.comesUp(5))
					time.Sleep(time.Duration(d.roll(4)) * time.Second)
					for _, name := range nodes {
						if !slices.ContainsFunc(s.members, func(m *member) bool { return m.name == name && m.alive() }) {
							s.join(name)
						}
					}
				}
				s.away.Store(false)
				d.still()
				for _, name := range nodes {
					if !slices.ContainsFunc(s.members, func(m *member) bool { return m.name == name && m.alive() }) {
						s.join(name)
					}
				}
				s.settled(claims...)
				v := s.check()
				t.Logf("%d processes; %d orders: %d granted, %d refused, %d parked", len(s.members), v.Orders, v.Granted, v.Refused, v.Parked)
			})
		})
	}
}

// booked reports whether the claim's order is in its partner's books.
func (s *swarm) booked(c *gift.Claim) bool {
	return slices.ContainsFunc(s.partners, func(p *partnertest.Partner) bool { return p.Books().Count(c.Orders[0].ID) > 0 })
}

// dice are rolled by many.
type dice struct {
	mu     sync.Mutex
	random *rand.Rand // nil: nothing comes up any more
}

func (d *dice) roll(sides int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(sides)
}

// comesUp is true once in so many times.
func (d *dice) comesUp(once int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random != nil && d.random.IntN(once) == 0
}

func (d *dice) still() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.random = nil
}
