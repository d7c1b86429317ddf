package fallbacklog

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector
	records    prometheus.Counter
	bytes      prometheus.Counter
	failures   prometheus.Counter
	commits    prometheus.Histogram
}

func newMetrics(l *Log) (*metrics, error) {
	m := &metrics{
		registry: l.opts.Metrics,
		records:  prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_log_records_total", Help: "Records made durable."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_log_bytes_total", Help: "Bytes made durable."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_log_commit_failures_total", Help: "Commits that failed, a full disk included."}),
		commits:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "manna_log_commit_seconds", Help: "Time of one commit: write and sync.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)}),
	}
	end := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_log_segment", Help: "Number of the active segment."}, func() float64 { return float64(l.End().Segment()) })
	m.collectors = []prometheus.Collector{m.records, m.bytes, m.failures, m.commits, end}
	for i, c := range m.collectors {
		if err := m.registry.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) commit(b *batch, took time.Duration, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.records.Add(float64(len(b.recs)))
	m.bytes.Add(float64(len(b.buf)))
	m.commits.Observe(took.Seconds())
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registry.Unregister(c)
	}
}
