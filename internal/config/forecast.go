package config

import (
	"math"
	"slices"
	"time"

	"manna/gift"
)

// Forecast is how long one partner takes for its part of one campaign at worst,
// against the campaign's promise.
type Forecast struct {
	Partner  string
	Campaign string
	Orders   int64 // of this campaign's whole stock at this partner
	// With are the other campaigns whose orders stand before this one's at
	// the worst moment.
	With    []string
	Waiting int64         // orders of all of them at that moment
	Takes   time.Duration // for all of them, at the partner's rate
	Promise time.Duration
	// Unbounded: a gift without stock is in it, so nobody can say.
	Unbounded bool
}

// Kept reports whether the promise can be kept.
func (f Forecast) Kept() bool { return f.Unbounded || f.Takes <= f.Promise }

// Forecasts gives one Forecast for each partner and campaign that meet, in the
// order of the file.
//
// The worst that can happen to a claim is that it is the last of a burst: the
// whole stock of every campaign that is open at this moment is claimed at once,
// and what campaigns before it left, claimed in their last moment, is not yet
// worked off. Takes is that backlog at the partner's rate.
func (c *Config) Forecasts() []Forecast {
	var all []Forecast
	for _, p := range c.Partners {
		var loads []load
		for _, k := range c.Campaigns {
			if l, ok := loadOf(k, p.Name); ok {
				loads = append(loads, l)
			}
		}
		closing := slices.SortedStableFunc(slices.Values(loads), func(a, b load) int { return a.campaign.Closes.Compare(b.campaign.Closes) })
		moments := make([]moment, len(loads))
		for i, l := range loads {
			moments[i] = backlog(p.Rate, closing, l.campaign.Opens)
		}
		for _, l := range loads {
			all = append(all, worst(p, l, moments))
		}
	}
	return all
}

// load is what one campaign means to one partner.
type load struct {
	campaign  *gift.Campaign
	orders    int64
	unbounded bool
}

func loadOf(k *gift.Campaign, partner string) (load, bool) {
	l := load{campaign: k}
	found := false
	for _, g := range k.Gifts {
		n := ordersOf(g, partner)
		found = found || n > 0
		switch {
		case n == 0:
		case g.Stock == 0:
			l.unbounded = true
		case g.Stock > (math.MaxInt64-l.orders)/n:
			l.orders = math.MaxInt64
		default:
			l.orders += g.Stock * n
		}
	}
	return l, found
}

// ordersOf is how many orders for the partner one claim of the gift makes at
// most, over all platforms.
func ordersOf(g *gift.Gift, partner string) int64 {
	platforms := []string{""}
	for i := range g.Items {
		platforms = append(platforms, g.Items[i].Platforms...)
	}
	var most int64
	for _, platform := range platforms {
		var n int64
		for i := range g.Items {
			if g.Items[i].Partner == partner && g.Items[i].Fits(platform) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// moment is the most that can wait for a partner when a campaign opens. Between
// openings a backlog only shrinks.
type moment struct {
	at        time.Time
	orders    float64
	with      []string // campaigns whose orders these are
	unbounded bool
}

func worst(p *Partner, l load, moments []moment) Forecast {
	k := l.campaign
	f := Forecast{Partner: p.Name, Campaign: k.Name, Orders: l.orders, Promise: k.Promise}
	most := -1.0
	for _, m := range moments {
		if m.at.Before(k.Opens) || !m.at.Before(k.Closes) {
			continue
		}
		f.Unbounded = f.Unbounded || m.unbounded
		if m.orders > most {
			most = m.orders
			f.With = slices.DeleteFunc(slices.Clone(m.with), func(name string) bool { return name == k.Name })
		}
	}
	f.Waiting = int64(min(most, 1<<62))
	f.Takes = time.Duration(min(most/float64(p.Rate)*float64(time.Second), 1<<62))
	return f
}

// backlog finds what can wait at a moment; loads are in order of their closing.
func backlog(rate gift.Rate, loads []load, at time.Time) moment {
	m := moment{at: at}
	var last time.Time
	work := func(until time.Time) {
		m.orders = max(0, m.orders-float64(rate)*until.Sub(last).Seconds())
		if m.orders == 0 && !m.unbounded {
			m.with = nil
		}
		last = until
	}
	add := func(l load) {
		m.orders += float64(l.orders)
		m.unbounded = m.unbounded || l.unbounded
		m.with = append(m.with, l.campaign.Name)
	}
	for _, l := range loads {
		if !l.campaign.Closes.After(at) {
			work(l.campaign.Closes)
			add(l)
		}
	}
	work(at)
	for _, l := range loads {
		if !l.campaign.Opens.After(at) && l.campaign.Closes.After(at) {
			add(l)
		}
	}
	return m
}

func campaignName(k *gift.Campaign) string { return k.Name }
