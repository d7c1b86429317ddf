package rocketmq

import "github.com/prometheus/client_golang/prometheus"

// metrics are the queue's numbers. Backlog and deferred are of the last Status.
type metrics struct {
	queue                   *Queue
	backlog, deferred, held *prometheus.Desc
	aside                   *prometheus.CounterVec
}

func newMetrics(q *Queue) *metrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"lane"}, nil)
	}
	return &metrics{
		queue:    q,
		backlog:  desc("manna_lane_backlog", "First deliveries that wait in the lane."),
		deferred: desc("manna_lane_deferred", "Messages that wait for their due time, or are due and wait."),
		held:     desc("manna_lane_held", "Messages received and neither acknowledged nor deferred."),
		aside: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "manna_queue_aside_total", Help: "Messages put aside because this release cannot read them.",
		}, []string{"lane", "why"}),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.backlog
	to <- m.deferred
	to <- m.held
	m.aside.Describe(to)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, l := range m.queue.open() {
		l.mu.Lock()
		backlog, deferred, held := l.last.Backlog, l.last.Deferred, l.held
		l.mu.Unlock()
		send := func(d *prometheus.Desc, v int64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), l.partner)
		}
		send(m.backlog, backlog)
		send(m.deferred, deferred)
		send(m.held, held)
	}
	m.aside.Collect(to)
}
