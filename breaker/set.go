package breaker

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Set is the breakers of one process by name. The zero Set is empty. It is safe
// for concurrent use, and a prometheus.Collector.
type Set struct {
	mu     sync.RWMutex
	byName map[string]*Breaker
}

// Add takes a breaker in; it fails where the name is taken.
func (s *Set) Add(b *Breaker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.byName[b.name]; taken {
		return fmt.Errorf("there is a breaker %s already", b.name)
	}
	if s.byName == nil {
		s.byName = make(map[string]*Breaker)
	}
	s.byName[b.name] = b
	return nil
}

// Remove takes the breaker with that name out, where there is one.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// Get finds a breaker by name.
func (s *Set) Get(name string) (*Breaker, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.byName[name]
	return b, ok
}

// All gives every breaker, by name.
func (s *Set) All() []*Breaker {
	s.mu.RLock()
	all := make([]*Breaker, 0, len(s.byName))
	for _, b := range s.byName {
		all = append(all, b)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Breaker) int { return cmp.Compare(a.name, b.name) })
	return all
}

var (
	stateDesc = prometheus.NewDesc("manna_breaker_state",
		"1 for the state in which a caller meets the breaker, 0 for the others.", []string{"name", "state"}, nil)
	modeDesc = prometheus.NewDesc("manna_breaker_mode",
		"1 for the mode of the breaker, 0 for the others.", []string{"name", "mode"}, nil)
	callsDesc = prometheus.NewDesc("manna_breaker_window_calls",
		"Results in the breaker's window; while it is not closed, those it opened on.", []string{"name"}, nil)
	failuresDesc = prometheus.NewDesc("manna_breaker_window_failures",
		"Failures among the results in the breaker's window.", []string{"name"}, nil)
	openedDesc = prometheus.NewDesc("manna_breaker_opened_total",
		"How often the breaker opened by itself, failed probes included.", []string{"name"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Set) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, modeDesc, callsDesc, failuresDesc, openedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Set) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	oneOf := func(d *prometheus.Desc, name string, names []string, is int) {
		for i, n := range names {
			v := 0.0
			if i == is {
				v = 1
			}
			gauge(d, v, name, n)
		}
	}
	for _, b := range s.All() {
		b.mu.Lock()
		snap, opened := b.look(), b.opened
		b.mu.Unlock()
		oneOf(stateDesc, b.name, stateNames, int(snap.State))
		oneOf(modeDesc, b.name, modeNames, int(snap.Mode))
		gauge(callsDesc, float64(snap.Calls), b.name)
		gauge(failuresDesc, float64(snap.Failures), b.name)
		ch <- prometheus.MustNewConstMetric(openedDesc, prometheus.CounterValue, float64(opened), b.name)
	}
}
