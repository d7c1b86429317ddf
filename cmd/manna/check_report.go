package main

import (
	"math"
	"strconv"
	"time"

	"manna/gift"
	"manna/internal/config"
	"manna/internal/node"
)

// report is what check says. Its field names are a contract.
type report struct {
	File      string           `json:"file"`
	OK        bool             `json:"ok"` // valid, every promise can be kept, and all it stands on can be used
	Errors    []config.Problem `json:"errors,omitempty"`
	Warnings  []config.Problem `json:"warnings,omitempty"`
	Server    *serverReport    `json:"server,omitempty"`
	Campaigns []campaignReport `json:"campaigns,omitempty"`
	Engines   []node.Verdict   `json:"engines,omitempty"` // the directories, and the engines that have servers
	Lanes     []laneReport     `json:"lanes,omitempty"`
	Promises  []promiseReport  `json:"promises,omitempty"`
}

type serverReport struct {
	Node       string `json:"node"`
	Data       string `json:"data"`
	Public     string `json:"public"`
	Admin      string `json:"admin"`
	Durability string `json:"durability"`
	Queue      string `json:"queue"`
	Guard      string `json:"guard"`
	Ledger     string `json:"ledger"`
	Archive    string `json:"archive,omitempty"`
	Cron       string `json:"cron"`
	Users      bool   `json:"users"`   // a JWT is accepted
	Callers    int    `json:"callers"` // servers that sign
}

type campaignReport struct {
	Name          string        `json:"name"`
	Opens         time.Time     `json:"opens"`
	Closes        time.Time     `json:"closes"`
	WindowS       float64       `json:"window_s"`
	PromiseS      float64       `json:"promise_s"`
	ClaimsPerUser int           `json:"claims_per_user"`
	Scenes        []sceneReport `json:"scenes"`
	Segment       string        `json:"segment,omitempty"`
	Gifts         []giftReport  `json:"gifts"`
}

type sceneReport struct {
	Name   string   `json:"name"`
	Stages []string `json:"stages"`
}

type giftReport struct {
	Name     string       `json:"name"`
	Stock    int64        `json:"stock"` // 0: unlimited
	LowUnder int64        `json:"low_under,omitempty"`
	Instead  string       `json:"instead,omitempty"`
	Items    []itemReport `json:"items"`
}

type itemReport struct {
	Item      string   `json:"item"`
	Partner   string   `json:"partner"`
	SKU       string   `json:"sku,omitempty"`
	Quantity  int64    `json:"quantity"`
	Amount    int64    `json:"amount,omitempty"`
	Currency  string   `json:"currency,omitempty"`
	Platforms []string `json:"platforms,omitempty"`
}

type laneReport struct {
	Partner     string  `json:"partner"`
	URL         string  `json:"url"`
	QueryURL    string  `json:"query_url,omitempty"`
	Signed      bool    `json:"signed"`
	Idempotent  bool    `json:"idempotent"`
	Rate        string  `json:"rate"`
	PerSecond   float64 `json:"per_second"`
	MaxInFlight int     `json:"max_in_flight"`
	// AnswersWithinS is how fast the partner has to answer on average for the
	// calls in flight to reach the rate.
	AnswersWithinS float64       `json:"answers_within_s"`
	TimeoutS       float64       `json:"timeout_s"`
	LeaseS         float64       `json:"lease_s"`
	SettlesS       float64       `json:"settles_within_s"`
	RetryS         []float64     `json:"retry_s"`
	RetryTotalS    float64       `json:"retry_total_s"`
	Breaker        breakerReport `json:"breaker"`
}

type breakerReport struct {
	WindowS      float64 `json:"window_s"`
	FailureRatio float64 `json:"failure_ratio"`
	MinCalls     int     `json:"min_calls"`
	SlowCallS    float64 `json:"slow_call_s"`
	OpenForS     float64 `json:"open_for_s"`
}

type promiseReport struct {
	Partner   string   `json:"partner"`
	Campaign  string   `json:"campaign"`
	Orders    int64    `json:"orders"`
	With      []string `json:"with,omitempty"` // campaigns whose orders wait at the same time
	Waiting   int64    `json:"waiting"`        // orders of all of them
	TakesS    float64  `json:"takes_s"`
	PromiseS  float64  `json:"promise_s"`
	Unbounded bool     `json:"unbounded,omitempty"` // a gift has no stock: nobody can say
	Kept      bool     `json:"kept"`
	Needs     string   `json:"needs,omitempty"` // where it is not kept: the rate that would keep it
}

func newReport(c *config.Config, engines []node.Verdict) report {
	r := report{File: c.File, OK: true, Warnings: c.Warnings, Server: &serverReport{
		Node: c.Written("node", c.Node), Data: c.Written("data", c.Data),
		Public: c.Written("listen.public", c.Listen.Public), Admin: c.Written("listen.admin", c.Listen.Admin),
		Durability: c.Durability, Queue: c.Queue.Engine, Guard: c.Guard.Engine, Ledger: c.Ledger.Engine,
		Archive: c.Written("archive.url", c.Archive.URL), Cron: c.Reconcile.Cron,
		Users: c.Auth.JWT != nil, Callers: len(c.Auth.Callers),
	}}
	r.Engines = engines
	for _, v := range engines {
		r.OK = r.OK && v.OK
	}
	for _, k := range c.Campaigns {
		r.Campaigns = append(r.Campaigns, newCampaignReport(c, k))
	}
	for _, p := range c.Partners {
		r.Lanes = append(r.Lanes, newLaneReport(c, p))
	}
	for _, f := range c.Forecasts() {
		p := promiseReport{
			Partner: f.Partner, Campaign: f.Campaign, Orders: f.Orders, With: f.With, Waiting: f.Waiting,
			TakesS: f.Takes.Seconds(), PromiseS: f.Promise.Seconds(), Unbounded: f.Unbounded, Kept: f.Kept(),
		}
		if !p.Kept {
			r.OK = false
			p.Needs = rateFor(float64(f.Waiting) / f.Promise.Seconds())
		}
		r.Promises = append(r.Promises, p)
	}
	return r
}

func newCampaignReport(c *config.Config, k *gift.Campaign) campaignReport {
	r := campaignReport{
		Name: k.Name, Opens: k.Opens, Closes: k.Closes, WindowS: k.Closes.Sub(k.Opens).Seconds(),
		PromiseS: k.Promise.Seconds(), ClaimsPerUser: k.ClaimsPerUser,
		Segment: c.Written("campaigns."+k.Name+".eligibility.segment", k.Segment),
	}
	for _, s := range k.Scenes {
		r.Scenes = append(r.Scenes, sceneReport(s))
	}
	for _, g := range k.Gifts {
		gift := giftReport{Name: g.Name, Stock: g.Stock, LowUnder: g.LowUnder, Instead: g.Instead}
		for i := range g.Items {
			item := &g.Items[i]
			gift.Items = append(gift.Items, itemReport{
				Item: item.Name, Partner: item.Partner, SKU: item.SKU, Quantity: item.Quantity,
				Amount: item.Amount, Currency: item.Currency, Platforms: item.Platforms,
			})
		}
		r.Gifts = append(r.Gifts, gift)
	}
	return r
}

func newLaneReport(c *config.Config, p *config.Partner) laneReport {
	r := laneReport{
		Partner: p.Name, URL: c.Written("partners."+p.Name+".url", p.URL), QueryURL: c.Written("partners."+p.Name+".query_url", p.QueryURL),
		Signed: p.Secret != "", Idempotent: p.Idempotent, Rate: p.Rate.String(), PerSecond: float64(p.Rate), MaxInFlight: p.MaxInFlight,
		AnswersWithinS: float64(p.MaxInFlight) / float64(p.Rate),
		TimeoutS:       p.Timeout.Seconds(), LeaseS: p.Lease().Seconds(), SettlesS: p.SettlesWithin.Seconds(),
		RetryS: make([]float64, 0, len(p.Retry)), RetryTotalS: p.RetryTotal().Seconds(),
		Breaker: breakerReport{
			WindowS: p.Breaker.Window.Seconds(), FailureRatio: p.Breaker.FailureRatio, MinCalls: p.Breaker.MinCalls,
			SlowCallS: p.Breaker.SlowCall.Seconds(), OpenForS: p.Breaker.OpenFor.Seconds(),
		},
	}
	for _, d := range p.Retry {
		r.RetryS = append(r.RetryS, d.Seconds())
	}
	return r
}

// rateFor writes a whole rate of at least perSecond.
func rateFor(perSecond float64) string {
	switch {
	case perSecond >= 1:
		return strconv.FormatFloat(math.Ceil(perSecond), 'f', 0, 64) + "/s"
	case perSecond >= 1.0/60:
		return strconv.FormatFloat(math.Ceil(perSecond*60), 'f', 0, 64) + "/m"
	}
	return strconv.FormatFloat(math.Ceil(perSecond*3600), 'f', 0, 64) + "/h"
}
