package consumer

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
)

type metrics struct {
	outcomes *prometheus.CounterVec
	overdue  *prometheus.CounterVec
	stopped  *prometheus.GaugeVec
	waits    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manna_lane_outcomes_total", Help: "Records written about orders, by lane and kind."}, []string{"lane", "kind"}),
		overdue:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manna_lane_overdue_total", Help: "Outcomes after the time the campaign promised. Any increase needs a person."}, []string{"lane"}),
		stopped:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "manna_lane_stopped", Help: "1 for a lane that cannot receive any more."}, []string{"lane"}),
		waits:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "manna_lane_waits_for_ledger", Help: "1 for a lane whose orders cannot go on before the ledger answers."}, []string{"lane"}),
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.overdue, m.stopped, m.waits} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Counts are the records that a lane has written since the process began.
type Counts struct {
	Granted  uint64 `json:"granted"`
	Refused  uint64 `json:"refused"`
	Deferred uint64 `json:"deferred"`
	Unknown  uint64 `json:"unknown"`
	Parked   uint64 `json:"parked"`
}

type counters struct {
	calls                                       atomic.Uint64
	granted, refused, deferred, unknown, parked atomic.Uint64
}

func (c *counters) add(kind fallbacklog.Kind) {
	switch kind {
	case fallbacklog.Granted:
		c.granted.Add(1)
	case fallbacklog.Refused:
		c.refused.Add(1)
	case fallbacklog.Deferred:
		c.deferred.Add(1)
	case fallbacklog.Unknown:
		c.unknown.Add(1)
	case fallbacklog.Parked:
		c.parked.Add(1)
	}
}

func (c *counters) read() Counts {
	return Counts{c.granted.Load(), c.refused.Load(), c.deferred.Load(), c.unknown.Load(), c.parked.Load()}
}
