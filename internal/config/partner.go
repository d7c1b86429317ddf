package config

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"manna/gift"
	"manna/internal/credential"
)

// Partner is one of `partners: {name: …}`: who hands gifts over, and what they
// bear.
type Partner struct {
	Name    string
	Adapter string // `adapter`: http
	URL     string // `url`: grants are sent here
	// QueryURL + "/" + order id is asked where an order stands. `query_url`;
	// empty: the partner cannot be asked.
	QueryURL string
	// Secret signs the calls by Standard Webhooks: whsec_ and base64, or the
	// key's own bytes. `secret`; empty: calls are not signed.
	Secret Secret
	// Idempotent says that the partner grants a repeated Idempotency-Key once.
	// `idempotent`, default false: claiming it wrongly hands gifts out twice,
	// not claiming it costs a parked order where nobody can be asked.
	Idempotent bool
	// Rate is how many calls the partner bears: in no second are more begun, and
	// at its door, where the way there has moved them, it sees at most 2 % more, or
	// one call where 2 % is less than one. `rate`, required: 3000/s, 900/m, 50/h.
	Rate gift.Rate
	// MaxInFlight bounds calls at a time. `max_in_flight`, default as many as
	// keep the rate while each call takes breaker.slow_call, at most 1024.
	MaxInFlight int
	// Timeout bounds one call. `timeout`, default 5s.
	Timeout time.Duration
	// SettlesWithin is the time after the beginning of a call from which on a
	// query's "none" is believed. `settles_within`, default 3 × timeout.
	SettlesWithin time.Duration
	// Retry are the pauses before the second, third, … attempt of a deferred
	// order; after the last it is parked. `retry`, default
	// [1s, 5s, 30s, 2m, 10m, 1h]; [] is one attempt.
	Retry   []time.Duration
	Breaker Breaker
	// ConflictMeans is what a 409 says: granted (before) or refused.
	// `conflict_means`; empty means granted.
	ConflictMeans string
	Request       Request
	// Answers says what a status means where it differs from the table of
	// package delivery: granted, before, refused, busy, misconfigured or unknown.
	// `answers: {404: refused}`; deferred is another word for busy.
	Answers map[int]string
	// Mapping says where an answer holds its fields: names with dots between
	// them. `mapping: {reference: data.id}`; an empty one is the name itself.
	Mapping Mapping
	// States translates the state in a query's answer: theirs → granted,
	// refused, pending or none. `states: {COMPLETED: granted}`.
	States map[string]string
}

// Breaker is `breaker: {…}` of a partner.
type Breaker struct {
	// Window is how long a call counts. `window`, default 10 × timeout and at
	// least 20s; at least 4 × timeout, because a call counts where it began.
	Window       time.Duration
	FailureRatio float64       // `failure_ratio`: opens at this share of failures, default 0.5
	MinCalls     int           // `min_calls` in the window before it may open, default 20
	SlowCall     time.Duration // `slow_call`: a longer call counts as failed, default timeout ÷ 2
	OpenFor      time.Duration // `open_for`: until the next probe, default 15s
}

// Request is `request: {method, headers, body}`: what a call looks like where it
// is not Manna's own. Headers and body are text/templates over the fields
// order_id, claim_id, campaign, scene, stage, user, platform, gift, item, sku,
// quantity, amount, currency, target and claimed_at, with the functions json
// and field: {"to": {{json (field .target "wallet")}}}.
type Request struct {
	Method  string // POST (default), PUT or PATCH
	Headers map[string]Secret
	Body    Secret // empty: the body of DESIGN's partner contract
}

// Mapping is `mapping: {…}` of a partner.
type Mapping struct{ Reference, Voucher, Amount, Code, Reason, State string }

// maxPartners bounds lanes: each has its connections, its breaker and its metrics.
const maxPartners = 256

// leaseMargin is what a lease leaves for the work around a call.
const leaseMargin = 10 * time.Second

// Lease is how long a lane may hold an order before another takes it: derived,
// because one shorter than a call would deliver twice.
func (p *Partner) Lease() time.Duration { return p.Timeout + leaseMargin }

// RetryTotal is the time from the first attempt to the last.
func (p *Partner) RetryTotal() time.Duration {
	var sum time.Duration
	for _, d := range p.Retry {
		sum += d
	}
	return sum
}

func (c *Config) readPartners(o *object) {
	v, ok := o.need("partners", "write partners: and below it who hands the gifts over; `manna init` shows how")
	if !ok {
		return
	}
	list, ok := v.object("write a name: for each partner, and its keys below")
	if !ok {
		return
	}
	if len(list.fields) == 0 {
		v.fail("write a name: for each partner, and its keys below", "has no partner")
	}
	if len(list.fields) > maxPartners {
		v.fail(fmt.Sprintf("at most %d are possible", maxPartners), "has %d partners", len(list.fields))
		return
	}
	list.named(func(name string, v value) {
		p := &Partner{Name: name}
		c.Partners = append(c.Partners, p)
		if o, ok := v.object("write the partner's keys: url, rate, …"); ok {
			p.read(o)
			o.done()
		}
	})
}

func (p *Partner) read(o *object) {
	p.Adapter = "http"
	o.word("adapter", &p.Adapter, "http")
	p.readAddresses(o)
	if key, ok := o.signing(&p.Secret); ok {
		// It may be the partner's choice, so it is told and not refused.
		if weak, ok := errors.AsType[*credential.Error](credential.Strong(key)); ok {
			o.place("secret").warn(weak.Remedy, "%s", weak.Problem)
		}
	}
	o.boolean("idempotent", &p.Idempotent)
	if v, ok := o.need("rate", "write rate: and what the partner bears, like 3000/s, 900/m or 50/h"); ok {
		if v.rate(&p.Rate) {
			v.lowRate(p.Rate)
		}
	}
	p.readTimes(o)
	p.readBreaker(o)
	p.MaxInFlight = p.defaultInFlight()
	o.count("max_in_flight", &p.MaxInFlight, 1, 10_000)
	p.readRequest(o)
	p.readAnswers(o)
	if !p.Idempotent && p.QueryURL == "" {
		o.warn("write idempotent: true if the partner grants a repeated Idempotency-Key once, or give its query_url",
			"cannot be asked and does not dedupe: each call without a clear answer waits for a person")
	}
}

// fineRate is the rate from which on 2 % of it is a whole call.
const fineRate = 50

// lowRate tells what is held at the door of a partner with a low rate. Starts keep
// to it exactly, and the way to the partner puts them nearer together.
func (v value) lowRate(r gift.Rate) {
	if r >= fineRate {
		return
	}
	starts := max(1, int(r))
	v.warn("nothing, if the partner bears that; else write a rate lower by one call",
		"is below %d/s, where 2 %% is less than one call: no second has more than %s begun, and at the partner's door it may be %d, as long as the times on the way there differ by less than %s",
		fineRate, calls(starts), starts+1, Short(r.Interval().Round(time.Millisecond)))
}

func calls(n int) string {
	if n == 1 {
		return "1 call"
	}
	return strconv.Itoa(n) + " calls"
}

func (p *Partner) readAddresses(o *object) {
	const want = "write an address like https://partner.example/grant"
	if v, ok := o.need("url", "write url: and where grants are sent, like https://partner.example/grant"); ok {
		v.url(&p.URL, want)
	}
	if v, ok := o.get("query_url"); ok && v.url(&p.QueryURL, want) {
		if strings.ContainsAny(p.QueryURL, "?") {
			v.fail("write it without ?…", "is an address to which /<order id> is added, so it ends in a path")
		}
	}
}

func (v value) url(into *string, want string) bool {
	var s string
	if !v.text(&s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		v.fail(want, "%s is no address of http or https", v.shown(s))
		return false
	}
	*into = s
	return true
}

func (p *Partner) readTimes(o *object) {
	p.Timeout = 5 * time.Second
	o.duration("timeout", &p.Timeout, 10*time.Millisecond, 10*time.Minute)
	p.SettlesWithin = 3 * p.Timeout
	if o.duration("settles_within", &p.SettlesWithin, time.Millisecond, 24*time.Hour) && p.SettlesWithin < p.Timeout {
		o.place("settles_within").fail("write at least "+Short(p.Timeout)+"; left out it is "+Short(3*p.Timeout),
			"%s is less than the timeout of %s: a call still under way would pass for one that never was", Short(p.SettlesWithin), Short(p.Timeout))
	}
	p.Retry = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}
	if v, ok := o.get("retry"); ok {
		v.retry(&p.Retry)
	}
}

func (v value) retry(into *[]time.Duration) {
	const most = 64
	values, ok := v.list("write the pauses in brackets: [1s, 5s, 30s]")
	if !ok {
		return
	}
	if len(values) > most {
		v.fail("write at most 64", "has %d pauses", len(values))
		return
	}
	list := make([]time.Duration, len(values))
	for i, e := range values {
		e.duration(&list[i], 10*time.Millisecond, 7*24*time.Hour)
	}
	*into = list
}

func (p *Partner) readBreaker(o *object) {
	b := &p.Breaker
	*b = Breaker{
		Window: max(20*time.Second, 10*p.Timeout), FailureRatio: 0.5, MinCalls: 20,
		SlowCall: p.Timeout / 2, OpenFor: 15 * time.Second,
	}
	o.sub("breaker", func(o *object) {
		o.duration("window", &b.Window, 40*time.Millisecond, 24*time.Hour)
		o.share("failure_ratio", &b.FailureRatio, false)
		o.count("min_calls", &b.MinCalls, 1, 1_000_000)
		o.duration("slow_call", &b.SlowCall, time.Millisecond, 10*time.Minute)
		o.duration("open_for", &b.OpenFor, 10*time.Millisecond, 24*time.Hour)
		if b.Window < 4*p.Timeout {
			o.place("window").fail("write window: "+Short(4*p.Timeout)+" or more, or timeout: "+Short(b.Window/4)+" or less",
				"%s is less than 4 × the timeout of %s: a call counts where it began, so failures would be missed", Short(b.Window), Short(p.Timeout))
		}
		if b.SlowCall > p.Timeout {
			o.place("slow_call").fail("write at most the timeout, "+Short(p.Timeout),
				"%s is more than the timeout of %s: no call would ever be slow", Short(b.SlowCall), Short(p.Timeout))
		}
	})
}

// defaultInFlight is as many calls as keep the rate while each takes SlowCall.
func (p *Partner) defaultInFlight() int {
	return int(math.Ceil(min(1024, max(1, float64(p.Rate)*p.Breaker.SlowCall.Seconds()))))
}

// ours are the headers that Manna or net/http writes.
var ours = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Idempotency-Key", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
}

func (p *Partner) readRequest(o *object) {
	p.Request.Method = http.MethodPost
	o.sub("request", func(o *object) {
		r := &p.Request
		o.word("method", &r.Method, http.MethodPost, http.MethodPut, http.MethodPatch)
		o.sub("headers", func(o *object) {
			r.Headers = map[string]Secret{}
			o.each(func(name string, key, v value) {
				canonical := http.CanonicalHeaderKey(name)
				switch {
				case slices.Contains(ours, canonical):
					key.fail("take it out", "%s is Manna's to set", canonical)
				case strings.Trim(canonical, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || name == "":
					key.fail("write letters, digits and -, like X-Api-Key", "%q is no name of a header", clip(name))
				default:
					var s Secret
					if v.template(&s) {
						r.Headers[canonical] = s
					}
				}
			})
		})
		if v, ok := o.get("body"); ok {
			v.template(&r.Body)
		}
	})
}

// verdicts are what a status may mean; deferred reads as busy.
var verdicts = []string{"granted", "before", "refused", "deferred", "busy", "misconfigured", "unknown"}

func (p *Partner) readAnswers(o *object) {
	o.word("conflict_means", &p.ConflictMeans, "granted", "refused")
	o.sub("answers", func(o *object) {
		p.Answers = map[int]string{}
		o.each(func(name string, key, v value) {
			status, err := strconv.Atoi(name)
			if err != nil || status < 200 || status > 599 {
				key.fail("write a number from 200 to 599", "%q is no status of an answer", clip(name))
				return
			}
			if status == http.StatusConflict && p.ConflictMeans != "" {
				key.fail("keep one of the two", "409 is said by conflict_means already")
				return
			}
			var s string
			if v.word(&s, verdicts...) {
				if s == "deferred" {
					s = "busy"
				}
				p.Answers[status] = s
			}
		})
	})
	o.sub("mapping", func(o *object) {
		m := &p.Mapping
		for _, f := range []struct {
			name string
			into *string
		}{
			{"reference", &m.Reference}, {"voucher", &m.Voucher}, {"amount", &m.Amount},
			{"code", &m.Code}, {"reason", &m.Reason}, {"state", &m.State},
		} {
			o.text(f.name, f.into)
		}
	})
	o.sub("states", func(o *object) {
		p.States = map[string]string{}
		o.each(func(name string, _, v value) {
			var s string
			if v.word(&s, "granted", "refused", "pending", "none") {
				p.States[name] = s
			}
		})
	})
}
