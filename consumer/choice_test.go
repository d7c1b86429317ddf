package consumer_test

import (
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
)

// rivals has a node accept the same claims with another gift, which another partner
// delivers, and feeds them.
func (s *swarm) rivals(m *member, claims []*gift.Claim, partner string) (others []*gift.Claim) {
	s.t.Helper()
	campaign := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: 24 * time.Hour}
	other := &gift.Gift{Name: "other", Items: []gift.Item{{Name: "item-" + partner, Partner: partner, Quantity: 1, Amount: 100, Currency: "CNY"}}}
	var recs []*fallbacklog.Record
	for _, c := range claims {
		c = campaign.NewClaim(c.ID, "", "", c.User, other, "", nil, m.now().UTC())
		others = append(others, c)
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: c})
	}
	if err := m.log.Append(s.t.Context(), recs...); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range others {
		s.broker.put(c)
	}
	return others
}

// Fronts whose guard failed have recorded claims with different gifts: each claim gets
// one of them, also where the ledger is away for a while and a process is killed.
func TestClaimWithTwoGiftsGetsOne(t *testing.T) {
	swarming(t, nil, func(t *testing.T, s *swarm) {
		s.varies = true
		s.partner("p", partnertest.Script{Dedupe: true}, seat{idempotent: true, rate: 20})
		s.partner("q", partnertest.Script{ApplyThen500: 0.2}, seat{queries: true, rate: 20})
		a, b := s.join("a"), s.join("b")
		s.away.Store(true)
		claims := s.claim(a, 60, "p")
		others := s.rivals(b, claims, "q")
		time.Sleep(10 * time.Second)
		s.away.Store(false)
		time.Sleep(time.Second)
		a.kill()
		s.join("a")
		s.settled(append(claims, others...)...)
		got := map[gift.State]int{}
		for i := range claims {
			first, second := s.states(claims[i])[0], s.states(others[i])[0]
			got[first]++
			got[second]++
			if first == second {
				t.Errorf("claim %v: both gifts are %v", claims[i].ID, first)
			}
		}
		if got[gift.StateGranted] != len(claims) || got[gift.StateRefused] != len(claims) {
			t.Errorf("the orders of %d claims with two gifts each: %v", len(claims), got)
		}
		if v := s.check(); v.Doubled > 0 || v.Lost > 0 {
			t.Errorf("%+v", v)
		}
	})
}
