package consumer_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
)

// apart is as far as the package lets two nodes' clocks differ.
const apart = 10 * time.Second

// Node b's clock is ahead of a's, by all that is allowed: what a has done only just, b
// must not take for something of long ago. The partner cannot dedupe.
func TestClocksApart(t *testing.T) {
	// a's call comes as late after its mark as it may, and takes most of the timeout.
	// Meanwhile b gets a copy of the order.
	for name, at := range map[string]seat{"knows neither": {}, "answers queries": {queries: true}} {
		t.Run("a call that is still to come, "+name, func(t *testing.T) {
			swarming(t, nil, func(t *testing.T, s *swarm) {
				s.skews["b"] = apart
				p := s.partner("p", partnertest.Script{Latency: partnertest.Span{Min: 1400 * ms, Max: 1400 * ms}}, at)
				var waited atomic.Bool
				var claims []*gift.Claim
				fed := make(chan struct{})
				s.hook = func(m *member, at string, _ gift.OrderID) {
					if m.name == "a" && at == "marked" && waited.CompareAndSwap(false, true) {
						<-fed
						s.broker.only("b")
						s.broker.put(claims[0])
						time.Sleep(4900 * time.Millisecond)
					}
				}
				a := s.join("a")
				s.join("b")
				s.broker.only("a")
				claims = s.claim(a, 1, "p")
				close(fed)
				s.settled(claims...)
				s.noneParked(claims)
				if v := s.check(); v.Granted != 1 || p.Books().Arrivals != 1 {
					t.Errorf("%d granted by %d calls and queries, want 1 by 1: b did not wait for a's call", v.Granted, p.Books().Arrivals)
				}
			})
		})
	}
	// The partner applies a's call a while after the caller gave up, but within the time
	// in which it settles. b asks before that, and hears that the order is not known.
	late := partnertest.Script{Late: 1, LateBy: 2900 * ms, FaultCalls: 1}
	t.Run("an order in doubt that is handed over", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			s.skews["b"] = apart
			s.partner("p", late, seat{queries: true})
			s.hook = func(m *member, at string, _ gift.OrderID) {
				if m.name == "a" && at == "called" {
					s.broker.only("b")
				}
			}
			a := s.join("a")
			s.join("b")
			s.broker.only("a")
			claims := s.claim(a, 5, "p")
			s.settled(claims...)
			s.check()
		})
	})
	t.Run("an attempt that is adopted", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			s.skews["b"] = apart
			s.partner("p", late, seat{queries: true})
			s.hook = func(m *member, at string, _ gift.OrderID) {
				switch {
				case m.name == "a" && at == "marked":
					time.Sleep(4900 * time.Millisecond)
				case m.name == "a" && at == "called":
					m.kill()
				}
			}
			b := s.join("b")
			s.broker.only("a")
			a := s.join("a")
			claims := s.claim(b, 1, "p")
			<-a.dead
			s.broker.only("b")
			s.settled(claims...)
			s.check()
		})
	})
	// What a node knows of its own call it need not wait for.
	t.Run("an own call", func(t *testing.T) {
		swarming(t, nil, func(t *testing.T, s *swarm) {
			p := s.partner("p", partnertest.Script{Reset: 1, FaultCalls: 1}, seat{queries: true})
			claims := s.claim(s.join("a"), 1, "p")
			began := time.Now()
			s.settled(claims...)
			if took := time.Since(began); took >= apart || p.Books().Arrivals < 3 {
				t.Errorf("granted after %v by %d calls and queries, want it when the partner is settled", took, p.Books().Arrivals)
			}
			s.check()
		})
	})
}

// noneParked wants that no node has ever parked one of the orders.
func (s *swarm) noneParked(claims []*gift.Claim) {
	s.t.Helper()
	for _, m := range s.members {
		for _, c := range claims {
			story, err := m.log.Told(c.Orders[0].ID)
			if err != nil {
				s.t.Fatal(err)
			}
			if slices.ContainsFunc(story.Records, func(rec *fallbacklog.Record) bool { return rec.Kind == fallbacklog.Parked }) {
				s.t.Errorf("node %s has parked order %v", m.name, c.Orders[0].ID)
			}
		}
	}
}
