package producer

import (
	"strconv"
	"sync"
	"testing"

	"manna/gift"
)

// The last one of a gift is where takers meet: each runs along the same row of
// gifts of which there is one.
func TestTheLastOneIsTakenOnce(t *testing.T) {
	const gifts, takers, rounds = 200, 4, 3000
	s := newStock()
	c := compile(testCampaigns()[0])
	row := make([]*gift.Gift, gifts)
	for i := range row {
		row[i] = &gift.Gift{Name: strconv.Itoa(i)}
		s.of(c.Name, row[i].Name)
	}
	for range rounds {
		for _, g := range row {
			g.Stock++
		}
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range takers {
			wg.Go(func() {
				<-start
				for _, g := range row {
					s.takeOf(c, g, 0)
				}
			})
		}
		close(start)
		wg.Wait()
		for _, g := range row {
			if taken := s.of(c.Name, g.Name).Load(); taken != g.Stock {
				t.Fatalf("%d taken of gift %s, there were %d", taken, g.Name, g.Stock)
			}
		}
	}
	g := row[0]
	s.giveBack(c.Name, g.Name, 1)
	want(t, "one of one left, one kept", s.takeOf(c, g, 2), false)
	want(t, "taken again", s.takeOf(c, g, 1), true)
}

// left is what is left of a gift whose stock has an end.
func (f *fixture) left(campaign, name string) int64 {
	return f.snapshot.Load().byName[campaign].gifts[name].Stock - f.stock.of(campaign, name).Load()
}

func TestASubstituteThatDoesNotFitIsNotGiven(t *testing.T) {
	c := testCampaigns()[1]
	c.Gifts[0].Stock, c.Gifts[0].LowUnder = 5, 5
	c.Gifts[1].Items[0].Platforms = []string{"web"}
	f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	for i := range 5 {
		a := f.claim(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: user(i)})
		want(t, "gift", a.Claim.Gift, "pack")
	}
	f.refused(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: "late"}, gift.SoldOut)
}
