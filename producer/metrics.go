package producer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/gift"
)

type metrics struct {
	accepted  prometheus.Counter
	duplicate prometheus.Counter
	byCode    map[gift.Code]prometheus.Counter
	guardless prometheus.Counter
	seconds   prometheus.Histogram
}

// newMetrics registers the metrics of a Front. The labels of a counter are looked
// up once, here, and not for every claim.
func newMetrics(f *Front, registry prometheus.Registerer) (*metrics, error) {
	claims := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manna_claims_total", Help: "Claims by what came of them: accepted, duplicate or the code of the refusal."}, []string{"result"})
	m := &metrics{
		accepted:  claims.WithLabelValues("accepted"),
		duplicate: claims.WithLabelValues("duplicate"),
		byCode:    make(map[gift.Code]prometheus.Counter),
		guardless: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_guard_failures_total", Help: "Claims that went on without the guard."}),
		seconds:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "manna_claim_seconds", Help: "Time from a decoded claim to its answer, the commit included.", Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16)}),
	}
	for code := range problems {
		m.byCode[code] = claims.WithLabelValues(string(code))
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_claims_in_flight", Help: "Claims being decided or appended."}, func() float64 { return float64(f.inFlight.Load()) })
	collectors := []prometheus.Collector{claims, m.guardless, m.seconds, inFlight}
	if f.replication != nil {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "manna_durability_degraded", Help: "1 while claims are answered before the queue has them.",
		}, func() float64 {
			if f.replication.degraded() != "" {
				return 1
			}
			return 0
		}))
	}
	for _, c := range collectors {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) claimed(a *Answer, err error, began time.Time) {
	m.seconds.Observe(time.Since(began).Seconds())
	switch {
	case err != nil:
		m.refused(err)
	case a.Duplicate:
		m.duplicate.Inc()
	default:
		m.accepted.Inc()
	}
}

func (m *metrics) refused(err error) {
	code := gift.Unavailable
	if refused, ok := errors.AsType[*gift.Error](err); ok {
		code = refused.Code
	}
	if c := m.byCode[code]; c != nil {
		c.Inc()
	}
}
