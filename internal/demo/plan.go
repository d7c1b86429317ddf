package demo

import (
	"fmt"
	"math"
	"strings"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
)

const (
	claimTime = 14 * time.Second // claims are spread over this
	drainTime = 34 * time.Second // the partners could take every order in this
	downAfter = 8 * time.Second
	downFor   = 7 * time.Second
	repeats   = 5 // every n-th claim repeats an earlier one

	campaignName = "night"
	sceneName    = "rain"
)

// partnerPlan is one scripted partner.
type partnerPlan struct {
	name   string
	says   string // what is special about it
	rate   gift.Rate
	script partnertest.Script
	extra  string // configuration beside url and rate
}

// plan is what a demo is going to do; the same claims and seed give the same
// plan.
type plan struct {
	claims   int // requests, repeats included
	seed     uint64
	golden   int64 // stock of the gift that runs out
	partners []partnerPlan
}

// Shares of claims by gift: what a claimant asks for.
const (
	askPack   = 0.25 // two items, from good and slow
	askCoupon = 0.30 // from flaky
	askGolden = 0.05 // from good, and few: most get a greeting in its place
)

func newPlan(claims int, seed uint64) *plan {
	p := &plan{claims: claims, seed: seed}
	distinct := float64(claims) * (repeats - 1) / repeats
	p.golden = max(1, int64(distinct*askGolden/3))
	rate := func(orders float64, in time.Duration) gift.Rate {
		return gift.Rate(max(10, math.Ceil(orders/in.Seconds())))
	}
	good := rate(distinct*(1-askCoupon), drainTime)
	slow := rate(distinct*askPack, drainTime)
	flaky := rate(distinct*askCoupon, drainTime-downFor)
	p.partners = []partnerPlan{
		{name: "good", says: "answers in 5–20 ms", rate: good, extra: "    idempotent: true\n",
			script: partnertest.Script{Dedupe: true, Refuse: 0.01, Latency: partnertest.Span{Min: 5 * partnertest.Millisecond, Max: 20 * partnertest.Millisecond}}},
		{name: "slow", says: "takes 50–250 ms, sometimes applies and then times out, cannot dedupe", rate: slow, extra: "    idempotent: false\n",
			script: partnertest.Script{ApplyThenTimeout: 0.02, Timeout: 0.01, FaultCalls: 2, Latency: partnertest.Span{Min: 50 * partnertest.Millisecond, Max: 250 * partnertest.Millisecond}}},
		{name: "flaky", says: fmt.Sprintf("is down for %v, and lies now and then", downFor), rate: flaky, extra: "    idempotent: true\n",
			script: partnertest.Script{Dedupe: true, ApplyThen500: 0.02, Garbage: 0.01, ApplyThenReset: 0.01, FaultCalls: 2,
				Latency: partnertest.Span{Min: 10 * partnertest.Millisecond, Max: 60 * partnertest.Millisecond},
				Down:    []partnertest.Window{{After: partnertest.Duration(downAfter), For: partnertest.Duration(downFor), By: partnertest.DownRefuse}}}},
	}
	for i := range p.partners {
		s := &p.partners[i].script
		s.Name, s.Seed, s.Rate = p.partners[i].name, seed, 0
	}
	return p
}

// configuration is the file that a node is started with; e is nil where it needs no
// servers.
func (p *plan) configuration(s *server, e *engines, urls map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# written by manna demo
data: %q
node: %s
listen: {public: %q, admin: %q}
log: {segment_bytes: 4MiB}
reconcile: {cron: "7 * * * *"}
shutdown: 15s
`, s.data(), s.name, s.public, s.admin)
	if e != nil {
		b.WriteString(e.text)
	}
	b.WriteString("partners:\n")
	for _, q := range p.partners {
		fmt.Fprintf(&b, `  %s:   # %s
    adapter: http
    url: %s/grant
    query_url: %s/orders
%s    rate: %v
    max_in_flight: 200
    timeout: 1s
    settles_within: 3s
    retry: [500ms, 1s, 2s, 3s, 4s, 5s, 6s, 8s, 8s, 8s]
    breaker: {window: 5s, failure_ratio: 0.5, min_calls: 20, slow_call: 1s, open_for: 1s}
`, q.name, q.says, urls[q.name], urls[q.name], q.extra, q.rate)
	}
	now := time.Now().UTC().Truncate(time.Second)
	fmt.Fprintf(&b, `campaigns:
  %s:
    opens: %s
    closes: %s
    scenes: [%s]
    promise: 10m
    gifts:
      packet:
        stock: 100000000
        items:
          - {item: packet, partner: good, sku: P1, amount: 100, currency: CNY}
      pack:
        stock: 100000000
        items:
          - {item: vip-30, partner: good, sku: V30}
          - {item: voucher, partner: slow, sku: C10, amount: 1000, currency: CNY}
      coupon:
        stock: 100000000
        items:
          - {item: coupon, partner: flaky, sku: K5}
      golden:
        stock: %d
        low_stock: {under: 1, give: greeting}
        items:
          - {item: golden, partner: good, sku: G1, amount: 8800, currency: CNY}
      greeting:
        stock: 100000000
        items:
          - {item: greeting, partner: good, sku: HI}
`, campaignName, now.Add(-time.Hour).Format(time.RFC3339), now.Add(24*time.Hour).Format(time.RFC3339), sceneName, p.golden)
	return b.String()
}
