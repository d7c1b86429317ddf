package breaker

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// gather reads the metrics of a set as name{labels} → value.
func gather(t *testing.T, s *Set) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			values[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestSet(t *testing.T) {
	var s Set
	for _, name := range []string{"queue", "partner/b", "partner/a"} {
		b, err := New(name, usual())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Add(b); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Get(name); !ok || got != b {
			t.Errorf("Get(%q) = %v, %v", name, got, ok)
		}
		if err := s.Add(b); err == nil {
			t.Errorf("%q is added twice", name)
		}
	}
	s.Remove("queue")
	s.Remove("nobody")
	if _, ok := s.Get("queue"); ok {
		t.Error("queue is still there")
	}
	var names []string
	for _, b := range s.All() {
		names = append(names, b.Name())
	}
	if want := []string{"partner/a", "partner/b"}; !slices.Equal(names, want) {
		t.Errorf("All() = %v, want %v", names, want)
	}
}

func TestMetrics(t *testing.T) {
	var s Set
	if got := gather(t, &s); len(got) != 0 {
		t.Errorf("an empty set shows %v", got)
	}
	b := make1(t, usual())
	if err := s.Add(b); err != nil {
		t.Fatal(err)
	}
	check := func(state, mode string, calls, failures, opened float64) {
		t.Helper()
		want := map[string]float64{
			"manna_breaker_window_calls{name=partner/midas}":    calls,
			"manna_breaker_window_failures{name=partner/midas}": failures,
			"manna_breaker_opened_total{name=partner/midas}":    opened,
		}
		for _, n := range stateNames {
			want["manna_breaker_state{name=partner/midas,state="+n+"}"] = 0
		}
		for _, n := range modeNames {
			want["manna_breaker_mode{mode="+n+",name=partner/midas}"] = 0
		}
		want["manna_breaker_state{name=partner/midas,state="+state+"}"] = 1
		want["manna_breaker_mode{mode="+mode+",name=partner/midas}"] = 1
		got := gather(t, &s)
		if len(got) != len(want) {
			t.Errorf("%d values, want %d: %v", len(got), len(want), got)
		}
		for k, v := range want {
			if g, ok := got[k]; !ok || g != v {
				t.Errorf("%s = %v, want %v", k, g, v)
			}
		}
	}
	call(t, b, Success, 3)
	check("closed", "automatic", 3, 0, 0)
	call(t, b, Failure, 7)
	check("open", "automatic", 10, 7, 1)
	b.Hold(HeldOpen)
	check("open", "held_open", 10, 7, 1)
	b.Hold(HeldClosed)
	check("closed", "held_closed", 0, 0, 1)
}
