package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector
	success    prometheus.Gauge
	last       *prometheus.GaugeVec
	alarms     *prometheus.CounterVec
	reissued   prometheus.Counter
	failures   prometheus.Counter
	incomplete prometheus.Counter
	closed     prometheus.Counter
	seconds    prometheus.Histogram
	behind     prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registry: registry,
		success:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "manna_reconcile_last_success_timestamp_seconds", Help: "When the last run that is no dry run did all that it could."}),
		last:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "manna_reconcile_orders", Help: "Orders by class in the last run that is no dry run."}, []string{"class"}),
		alarms:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manna_reconcile_alarms_total", Help: "Grants that no claim explains, orders granted more than once, and claims given two gifts, as found; a later look finds them again."}, []string{"class"}),
		reissued: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_reconcile_reissued_total", Help: "Orders brought back to their lanes."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_reconcile_failures_total", Help: "Runs that did not come to their end."}),
		incomplete: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_reconcile_incomplete_total",
			Help: "Runs whose report is incomplete."}),
		closed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_reconcile_gate_closed_total", Help: "Runs that were not allowed to reissue because of the lanes' backlog."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "manna_reconcile_seconds", Help: "Time of one run.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
		behind:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "manna_reconcile_slots_behind", Help: "Slots that have ended and are not done."}),
	}
	for _, class := range []Class{Unexpected, Duplicate} {
		m.alarms.WithLabelValues(class.String())
	}
	m.collectors = []prometheus.Collector{m.success, m.last, m.alarms, m.reissued, m.failures, m.incomplete, m.closed, m.seconds, m.behind}
	for i, c := range m.collectors {
		if err := registry.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

// observe takes a report in.
func (m *metrics) observe(r *Report) {
	m.seconds.Observe(r.TookS)
	for _, class := range []Class{Unexpected, Duplicate} {
		m.alarms.WithLabelValues(class.String()).Add(float64(r.Classes.Get(class)))
	}
	m.alarms.WithLabelValues(Duplicate.String()).Add(float64(r.GivenTwice))
	if r.DryRun {
		return
	}
	for class := Unexpected; class <= Matched; class++ {
		m.last.WithLabelValues(class.String()).Set(float64(r.Classes.Get(class)))
	}
	m.reissued.Add(float64(r.Reissued))
	if !r.Complete {
		m.incomplete.Inc()
	}
	if !r.GateOpen {
		m.closed.Inc()
	}
	if r.Done {
		m.success.Set(float64(r.Taken.UnixMilli()) / float64(time.Second/time.Millisecond))
	}
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registry.Unregister(c)
	}
}
