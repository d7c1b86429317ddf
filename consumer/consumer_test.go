package consumer_test

import (
	"strings"
	"testing"
	"time"

	"manna/breaker"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
)

const ms = partnertest.Millisecond

// Each row is a way in which a partner lies. Whatever it does, the promises hold.
func TestPromisesHoldWhateverThePartnerDoes(t *testing.T) {
	for name, row := range map[string]struct {
		script partnertest.Script
		seat   seat
		parked bool // orders may be parked
	}{
		"grants":                                    {partnertest.Script{Dedupe: true}, seat{idempotent: true}, false},
		"refuses some":                              {partnertest.Script{Dedupe: true, Refuse: 0.3}, seat{idempotent: true}, false},
		"applies and answers 500, dedupes":          {partnertest.Script{Dedupe: true, ApplyThen500: 0.5, FaultCalls: 2}, seat{idempotent: true}, false},
		"applies and resets, dedupes with 409":      {partnertest.Script{Dedupe: true, ConflictOnRepeat: true, ApplyThenReset: 0.5, FaultCalls: 2}, seat{idempotent: true}, false},
		"applies and times out, answers queries":    {partnertest.Script{ApplyThenTimeout: 0.2, FaultCalls: 2}, seat{queries: true}, false},
		"times out unapplied, answers queries":      {partnertest.Script{Timeout: 0.1, FaultCalls: 1}, seat{queries: true}, false},
		"applies late, answers queries":             {partnertest.Script{Late: 0.1, LateBy: 200 * ms, FaultCalls: 1}, seat{queries: true}, false},
		"decides late":                              {partnertest.Script{ApplyThen500: 0.3, PendingFirst: 2, FaultCalls: 1}, seat{queries: true}, false},
		"answers garbage, knows neither":            {partnertest.Script{Garbage: 0.2}, seat{}, true},
		"applies and resets, queries unanswered":    {partnertest.Script{Dedupe: true, ApplyThenReset: 0.3, Query: partnertest.QueryAbsent, FaultCalls: 1}, seat{idempotent: true, queries: true}, false},
		"says 429 with Retry-After":                 {partnertest.Script{Dedupe: true, TooMany: 0.2, RetryAfter: 1000 * ms, FaultCalls: 1}, seat{idempotent: true}, false},
		"drips its answer, dedupes":                 {partnertest.Script{Dedupe: true, Drip: 0.1, FaultCalls: 1}, seat{idempotent: true}, false},
		"is down for a while":                       {partnertest.Script{Dedupe: true, Down: []partnertest.Window{{After: 0, For: 600 * ms, By: partnertest.DownRefuse}}}, seat{idempotent: true}, false},
		"resets for a while, neither dedupes":       {partnertest.Script{Latency: partnertest.Span{Min: 50 * ms, Max: 50 * ms}, Down: []partnertest.Window{{After: 50 * ms, For: 300 * ms, By: partnertest.DownReset}}}, seat{rate: 200}, true},
		"wants another key than we have, 401 first": {partnertest.Script{Dedupe: true, Answer: 401}, seat{idempotent: true, retry: []time.Duration{10 * time.Millisecond}, openFor: 5 * time.Millisecond}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.partner("p", row.script, row.seat)
			orders := w.claim(120, "p")
			w.run()
			if down := row.script.Down; len(down) > 0 && down[0].After > 0 {
				for p.Books().Arrivals == 0 {
					time.Sleep(time.Millisecond)
				}
				// The time until it is down counts anew, now that calls are under way.
				if err := p.SetScript(p.Script()); err != nil {
					t.Fatal(err)
				}
			}
			w.settled(len(orders))
			v := w.check()
			if !row.parked && v.Parked > 0 {
				t.Errorf("%d orders are parked", v.Parked)
			}
			if row.parked && v.Parked == 0 {
				t.Error("nothing was parked: the row tests nothing")
			}
		})
	}
}

func TestPartnerThatHangsSlowsNoOtherLane(t *testing.T) {
	w := newWorld(t)
	w.partner("hangs", partnertest.Script{Dedupe: true, Timeout: 1}, seat{idempotent: true, timeout: 2 * time.Second})
	good := w.partner("good", partnertest.Script{Dedupe: true}, seat{idempotent: true})
	w.claim(200, "hangs")
	orders := w.claim(200, "good")
	w.run()
	began := time.Now()
	w.settled(len(orders))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the good partner's orders took %v, longer than one call to the partner that hangs", took)
	}
	if got := len(good.Books().Grants); got != len(orders) {
		t.Errorf("the good partner has %d grants, want %d", got, len(orders))
	}
}

func TestHeldOpenSwitchLetsNothingThroughAndLosesNothing(t *testing.T) {
	w := newWorld(t)
	// A machine that is busy with other things leaves no attempt in doubt.
	p := w.partner("p", partnertest.Script{Dedupe: true}, seat{timeout: patience})
	w.partners[0].Breaker.Hold(breaker.HeldOpen)
	orders := w.claim(100, "p")
	w.run()
	s, err := w.lane(t, "p")
	if err != nil || s.Queue.Backlog+s.Queue.Held != 100 {
		t.Fatalf("status %+v, %v: want 100 orders waiting or held", s.Queue, err)
	}
	if got := p.Books().Arrivals; got != 0 {
		t.Fatalf("%d calls went through a switch held open", got)
	}
	w.partners[0].Breaker.Hold(breaker.Automatic)
	w.settled(len(orders))
	if v := w.check(); v.Granted != 100 {
		t.Errorf("%d granted, want 100", v.Granted)
	}
}

func TestAttemptsExhaustedParksAndAPersonCanTakeItUpAgain(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{Dedupe: true, Answer: 503}, seat{idempotent: true, retry: []time.Duration{time.Millisecond, time.Millisecond}})
	p.SetScript(partnertest.Script{Name: "p", Dedupe: true, Answer: 503, RetryAfter: 1000 * ms})
	orders := w.claim(1, "p")
	w.run()
	w.settled(1)
	s, err := w.log.Order(orders[0])
	if err != nil || s.State != gift.StateParked || s.Code != "exhausted" || s.Attempts != 3 {
		t.Fatalf("state %v code %q after %d attempts, %v; want parked, exhausted, 3", s.State, s.Code, s.Attempts, err)
	}
	if err := p.SetScript(partnertest.Script{Name: "p", Dedupe: true}); err != nil {
		t.Fatal(err)
	}
	w.reissue(t, s)
	w.settled(1)
	if v := w.check(); v.Granted != 1 {
		t.Errorf("verdict %+v: want the order granted", v)
	}
}

func TestClaimWithEveryOrderRefusedIsReported(t *testing.T) {
	w := newWorld(t)
	w.partner("p", partnertest.Script{Dedupe: true, Refuse: 1}, seat{idempotent: true})
	w.partner("q", partnertest.Script{Dedupe: true, Refuse: 1}, seat{idempotent: true})
	w.partner("good", partnertest.Script{Dedupe: true}, seat{idempotent: true})
	w.claim(1, "p", "q")
	w.claim(1, "p", "good")
	w.run()
	w.settled(4)
	w.check()
	close(w.refused)
	reported := map[gift.ClaimID]bool{}
	for id := range w.refused {
		reported[id] = true
	}
	if len(reported) != 1 {
		t.Errorf("%d claims were reported as refused whole, want 1", len(reported))
	}
}

// A consumer is stopped again and again in the middle of its work; nothing may be
// lost or doubled although the partner cannot dedupe.
func TestStoppingAndStartingLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.partner("p", partnertest.Script{ApplyThenTimeout: 0.05, FaultCalls: 1, Latency: partnertest.Span{Min: 1 * ms, Max: 20 * ms}}, seat{queries: true, rate: 500})
	orders := w.claim(400, "p")
	for range 5 {
		w.run()
		w.granted(t, 40)
		w.close()
		w.open()
	}
	w.run()
	w.settled(len(orders))
	if v := w.check(); v.Granted != len(orders) {
		t.Errorf("%d granted of %d", v.Granted, len(orders))
	}
}

func TestOrderInDoubtIsNotRetriedBlindly(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{ApplyThen500: 1}, seat{})
	orders := w.claim(1, "p")
	w.run()
	w.settled(1)
	s, err := w.log.Order(orders[0])
	if err != nil {
		t.Fatal(err)
	}
	if s.State != gift.StateParked || !strings.Contains(s.Reason, "unknown") {
		t.Errorf("state %v, reason %q: want parked because the outcome is unknown", s.State, s.Reason)
	}
	if got := p.Books().Arrivals; got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	if s.Records[1].Kind != fallbacklog.Attempted {
		t.Errorf("the second record is %v: want the attempt marked before the call", s.Records[1].Kind)
	}
}

// Canary: the checker must see a doubled gift. Here the configuration says that
// the partner dedupes and it does not, which is what a lane without the
// unknown-outcome protocol would do to every partner.
func TestCanaryDoubledGiftIsSeen(t *testing.T) {
	w := newWorld(t)
	w.partner("p", partnertest.Script{ApplyThen500: 0.5, FaultCalls: 1}, seat{idempotent: true})
	orders := w.claim(50, "p")
	w.run()
	w.settled(len(orders))
	w.close()
	if v := w.verdict(); v.Doubled == 0 || v.Kept() {
		t.Errorf("verdict %+v: want doubled orders and a broken promise", v)
	}
}
