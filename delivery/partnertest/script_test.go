package partnertest

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestScriptJSON(t *testing.T) {
	want := Script{
		Name: "slow", Seed: 7, Rate: 300, Latency: Span{20 * Millisecond, 30 * Millisecond}, Dedupe: true,
		ApplyThenTimeout: 0.05, RetryAfter: 2 * Second, Down: []Window{{After: 10 * Second, For: 5 * Second, By: DownRefuse}},
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadScript(strings.NewReader(string(text)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v from %s", got, err, text)
	}
	const byHand = `{"name":"slow","latency":{"min":"20ms","max":"1s"},"down":[{"after":"10s","for":"5s"}]}`
	if _, err := ReadScript(strings.NewReader(byHand)); err != nil {
		t.Error(err)
	}
}

func TestScriptRefused(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{"nam":"x"}`, `{} {}`, `{"latency":{"min":"20"}}`, `{"refuse":1.5}`, `{"refuse":-1}`, `{"rate":-1}`, `{"rate":1e7}`,
		`{"garbage":0.6,"drip":0.6}`, `{"drip":-0.1}`, `{"query":"maybe"}`, `{"answer":100}`, `{"retry_after":"-1s"}`,
		`{"latency":{"min":"2s","max":"1s"}}`, `{"down":[{"after":"-1s","for":"1s"}]}`, `{"down":[{"after":"1s","for":"1s","by":"magic"}]}`,
		`{"name":"` + strings.Repeat("x", maxRequest) + `"}`,
	} {
		if s, err := ReadScript(strings.NewReader(text)); err == nil {
			t.Errorf("%.60s: became %+v", text, s)
		}
	}
	if err := (Script{Drip: math.NaN()}).Check(); err == nil {
		t.Error("a share that is no number was taken")
	}
}

func TestDrawsDependOnSeedOrderAndCall(t *testing.T) {
	s := Script{Seed: 1, Garbage: 0.1, Drip: 0.2, Refuse: 0.3}
	count := make(map[fault]int)
	refused, repeats := 0, 0
	const n = 20000
	for i := range n {
		id := orderID(i)
		f := s.fault(id, 1)
		again := s
		if f != again.fault(id, 1) || again.refuses(id) != s.refuses(id) {
			t.Fatal("a draw does not repeat itself")
		}
		count[f]++
		if f == s.fault(id, 2) {
			repeats++
		}
		if s.refuses(id) {
			refused++
		}
	}
	near := func(what string, got int, share float64) {
		if math.Abs(float64(got)/n-share) > 0.015 {
			t.Errorf("%s: %d of %d, want about %v", what, got, n, share)
		}
	}
	near("garbage", count[faultGarbage], 0.1)
	near("drip", count[faultDrip], 0.2)
	near("none", count[faultNone], 0.7)
	near("refused", refused, 0.3)
	near("the same fault in the second call", repeats, 0.1*0.1+0.2*0.2+0.7*0.7)
	s.FaultCalls = 1
	s.Garbage, s.Drip = 1, 0
	if s.fault(orderID(1), 1) != faultGarbage || s.fault(orderID(1), 2) != faultNone {
		t.Error("fault_calls does not end the faults")
	}
}

func TestLatency(t *testing.T) {
	s := Script{Latency: Span{10 * Millisecond, 20 * Millisecond}}
	for i := range 100 {
		if d := s.latency(orderID(i), 1); d < 10*time.Millisecond || d > 20*time.Millisecond {
			t.Errorf("got %v", d)
		}
	}
	s.Latency.Max = 0
	if d := s.latency(orderID(1), 1); d != 10*time.Millisecond {
		t.Errorf("got %v, want 10ms", d)
	}
}

func TestDownWindows(t *testing.T) {
	s := Script{Down: []Window{{After: 10 * Second, For: 5 * Second, By: DownRefuse}, {After: 20 * Second, For: Second}}}
	for _, c := range []struct {
		since int
		by    string
		stays int
	}{{0, "", 10}, {10, DownRefuse, 5}, {14, DownRefuse, 1}, {15, "", 5}, {20, DownReset, 1}, {21, "", 0}} {
		by, stays := s.down(time.Duration(c.since) * time.Second)
		if by != c.by || stays != time.Duration(c.stays)*time.Second {
			t.Errorf("at %ds: got %q for %v, want %q for %ds", c.since, by, stays, c.by, c.stays)
		}
	}
}
