package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/queue/embedded"
)

var laneRates = [...]gift.Rate{300, 3000}

const (
	// laneSettle is how long a lane works before it is measured.
	laneSettle  = 2 * time.Second
	laneTimeout = 2 * time.Second
)

// lane gives a lane more than it can deliver and counts the calls it starts, and
// those that arrive, against the partner's rate. The partner answers at once and
// keeps its books in this process.
func lane(ctx context.Context, o *options) (*result, error) {
	r := &result{Value: 1, Unit: "of the rate (the lower)"}
	length := time.Duration(o.rounds) * o.round
	for _, rate := range laneRates {
		dir := filepath.Join(o.temp, strconv.Itoa(int(rate)))
		share, peak, stalls, err := measureLane(ctx, dir, rate, length)
		if err != nil {
			return nil, fmt.Errorf("at %v: %w", rate, err)
		}
		r.Value = min(r.Value, share)
		r.Against = append(r.Against, peer{"the rate, " + rate.String(), 1, share})
		r.add("peak second at the door ÷ "+rate.String(), peak, "")
		r.add("stalls of the partner at "+rate.String(), float64(stalls), "")
		fmt.Fprintf(o.out, "%v for %v: %.4f of it used, at most %.4f of it in a sliding second at the door\n", rate, length, share, peak)
	}
	return r, nil
}

// measureLane gives the share of the rate that was used, the most calls in a
// sliding second at the door ÷ rate, and how often the partner was not running.
func measureLane(ctx context.Context, dir string, rate gift.Rate, length time.Duration) (share, peak float64, stalls int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, 0, err
	}
	partner := partnertest.New(partnertest.Script{Name: "p", Dedupe: true})
	served := make(chan error, 1)
	go func() { served <- partner.Serve(ctx, l) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-served)
	}()

	log, err := fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(dir, "log"), Node: "bench"})
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	backlog := int(float64(rate) * (laneSettle + length + 5*time.Second).Seconds())
	if err := fill(ctx, log, "p", backlog); err != nil {
		return 0, 0, 0, err
	}
	engine, err := embedded.Open(ctx, embedded.Options{Log: log, Dir: filepath.Join(dir, "lanes")})
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, engine.Close(context.WithoutCancel(ctx))) }()
	c, err := newConsumer(log, engine, "http://"+l.Addr().String(), rate)
	if err != nil {
		return 0, 0, 0, err
	}
	lanes, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- c.Run(lanes) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ran)
	}()

	first, began, err := callsAfter(ctx, c, laneSettle)
	if err != nil {
		return 0, 0, 0, err
	}
	last, ended, err := callsAfter(ctx, c, length)
	if err != nil {
		return 0, 0, 0, err
	}
	if int(last) >= backlog {
		return 0, 0, 0, errors.New("the backlog ended before the measurement did")
	}
	books := partner.Books()
	most, _ := books.Peak(float64(rate))
	share = float64(last-first) / (float64(rate) * ended.Sub(began).Seconds())
	return share, float64(most) / float64(rate), len(books.Stalls), nil
}

// callsAfter gives the calls that the lane has started when d has passed.
func callsAfter(ctx context.Context, c *consumer.Consumer, d time.Duration) (calls uint64, at time.Time, err error) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, at, ctx.Err()
	}
	lanes := c.Lanes(ctx)
	if len(lanes) != 1 || lanes[0].Problem != "" {
		return 0, at, fmt.Errorf("lanes: %+v", lanes)
	}
	return lanes[0].Calls, time.Now(), nil
}

func newConsumer(log *fallbacklog.Log, engine *embedded.Queue, url string, rate gift.Rate) (*consumer.Consumer, error) {
	const inFlight = 200
	a, err := delivery.NewHTTP(delivery.HTTPOptions{Name: "p", URL: url + "/grant", Idempotent: true, Timeout: laneTimeout, MaxInFlight: inFlight})
	if err != nil {
		return nil, err
	}
	b, err := breaker.New("partner/p", breaker.Settings{Window: 20 * time.Second, FailureRatio: 0.5, MinCalls: 20, SlowCall: laneTimeout, OpenFor: time.Second, Timeout: laneTimeout})
	if err != nil {
		return nil, err
	}
	return consumer.New(consumer.Options{Log: log, Queue: engine, Partners: []*consumer.Partner{{
		Name: "p", Adapter: a, Rate: rate, MaxInFlight: inFlight, Retry: []time.Duration{time.Second, 5 * time.Second}, Breaker: b,
	}}})
}

// fill appends claims of one order each, for a partner.
func fill(ctx context.Context, log *fallbacklog.Log, partner string, claims int) error {
	const batch = 1000
	for n := 0; n < claims; {
		var recs []*fallbacklog.Record
		for ; n < claims && len(recs) < batch; n++ {
			recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: newClaim(partner, n)})
		}
		if err := log.Append(ctx, recs...); err != nil {
			return err
		}
	}
	return nil
}

// newClaim makes the n-th user's claim. All are of one length.
func newClaim(partner string, n int) *gift.Claim {
	campaign := gift.Campaign{Name: "bench", ID: gift.NewCampaignID("bench"), Promise: 48 * time.Hour}
	g := &gift.Gift{Name: "pack", Items: []gift.Item{{Name: "vip-30", Partner: partner, SKU: "V30", Quantity: 1}}}
	user := fmt.Sprintf("u-%010d", n)
	target := fmt.Appendf(nil, `{"wallet":"w-%010d"}`, n)
	return campaign.NewClaim(campaign.ID.ClaimID("", user, ""), "", "", user, g, "", target, time.Now().UTC())
}
