package consumer_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
)

// A partner that dedupes makes a repeat harmless: its orders' retries ask nobody.
func TestRetryAtAPartnerThatDedupesAsksNobody(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		p := s.partner("p", partnertest.Script{Dedupe: true, ApplyThen500: 1, FaultCalls: 3}, seat{idempotent: true})
		a := s.join("a")
		s.join("b")
		s.settled(s.claim(a, 20, "p")...)
		if n := s.asked.Load(); n > 0 || p.Books().Arrivals < 80 {
			t.Errorf("the ledger was asked %d times in %d calls, want never in 80", n, p.Books().Arrivals)
		}
		if v := s.check(); v.Granted != 20 {
			t.Errorf("%d of 20 granted", v.Granted)
		}
	})
}

// One copy of each order has been tried in vain when the other ends granted at another
// node. The first goes on, and its outcome is in two logs: the order is granted once.
func TestOutcomeInTwoLogsIsOne(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		p := s.partner("p", partnertest.Script{Dedupe: true, TooMany: 1, FaultCalls: 1}, seat{idempotent: true})
		a := s.join("a")
		b := s.join("b")
		s.broker.only("a")
		claims := s.claim(a, 10, "p")
		s.until("each was tried", func() bool { return p.Books().Arrivals == len(claims) })
		s.broker.only("b")
		for _, c := range claims {
			s.broker.put(c)
		}
		granted := func(m *member) bool {
			return !slices.ContainsFunc(claims, func(c *gift.Claim) bool {
				story, err := m.log.Told(c.Orders[0].ID)
				return err != nil || story.State != gift.StateGranted
			})
		}
		s.until("b has them granted", func() bool { return granted(b) })
		s.broker.only("a")
		s.broker.wake()
		s.settled(claims...)
		if !granted(a) {
			t.Error("node a's retries are not in its log: the outcomes are in one log only")
		}
		if v := s.check(); v.Granted != len(claims) || v.Doubled > 0 {
			t.Errorf("%d of %d granted, %d doubled", v.Granted, len(claims), v.Doubled)
		}
	})
}

// Before a person is troubled with an order, the ledger is asked whether it has ended.
func TestOrderThatEndedElsewhereIsNotParked(t *testing.T) {
	for name, script := range map[string]partnertest.Script{
		"exhausted": {Dedupe: true, TooMany: 1}, "in doubt": {Dedupe: true, Error500: 1},
	} {
		t.Run(name, func(t *testing.T) {
			swarming(t, nil, func(t *testing.T, s *swarm) {
				p := s.partner("p", script, seat{idempotent: true, retry: []time.Duration{5 * time.Second, 5 * time.Second}})
				b := s.join("b")
				s.broker.only("a")
				claims := s.claim(b, 1, "p")
				// The partner is well again for b, which ends the order before a gives it up.
				var tried atomic.Int32
				s.hook = func(m *member, at string, _ gift.OrderID) {
					if m.name == "a" && at == "called" && tried.Add(1) == 3 {
						if err := p.SetScript(partnertest.Script{Name: "p", Dedupe: true}); err != nil {
							t.Error(err)
						}
						s.broker.only("b")
						s.broker.put(claims[0])
						s.until("the ledger has b's outcome", func() bool {
							row, err := b.ledger.Cluster.Order(t.Context(), claims[0].Orders[0].ID)
							return err == nil && row.State == gift.StateGranted
						})
					}
				}
				s.join("a")
				s.settled(claims...)
				s.noneParked(claims)
				if v := s.check(); v.Granted != 1 || tried.Load() != 3 {
					t.Errorf("%d granted, node a tried %d times, want 1 after 3", v.Granted, tried.Load())
				}
			})
		})
	}
}
