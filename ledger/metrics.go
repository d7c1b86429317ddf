package ledger

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	applied    prometheus.Counter
	failures   prometheus.Counter
	rebuilds   prometheus.Counter
	collectors []prometheus.Collector
}

func newMetrics(f *Follower) *metrics {
	m := &metrics{
		applied:  prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_ledger_records_total", Help: "Records of the log taken into the ledger."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_ledger_failures_total", Help: "Failed tries to follow the log."}),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_ledger_rebuilds_total", Help: "Times the ledger was dropped and rebuilt from the log."}),
	}
	seconds := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_ledger_lag_seconds", Help: "Age of the ledger: 0 at the end of the log; -1 where nothing has been taken in yet."}, func() float64 {
		asOf := f.AsOf()
		if asOf.IsZero() {
			return -1
		}
		return max(0, f.opts.Now().Sub(asOf).Seconds())
	})
	segments := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_ledger_lag_segments", Help: "Segments of the log that the ledger has not reached the end of, the active one not counted."}, func() float64 {
		at, end := max(f.Position(), f.opts.Log.First()), f.opts.Log.End()
		return float64(end.Segment()) - float64(min(at, end).Segment())
	})
	m.collectors = []prometheus.Collector{m.applied, m.failures, m.rebuilds, seconds, segments}
	return m
}

func (m *metrics) register(registry prometheus.Registerer) error {
	for i, c := range m.collectors {
		if err := registry.Register(c); err != nil {
			for _, c := range m.collectors[:i] {
				registry.Unregister(c)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(registry prometheus.Registerer) {
	for _, c := range m.collectors {
		registry.Unregister(c)
	}
}
