package embedded

import "github.com/prometheus/client_golang/prometheus"

// gauges are the lanes' numbers at the moment of the scrape.
type gauges struct {
	queue                   *Queue
	backlog, deferred, held *prometheus.Desc
}

func newGauges(q *Queue) *gauges {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"lane"}, nil)
	}
	return &gauges{
		queue:    q,
		backlog:  desc("manna_lane_backlog", "First deliveries that wait in the lane."),
		deferred: desc("manna_lane_deferred", "Messages that wait for their due time, or are due and wait."),
		held:     desc("manna_lane_held", "Messages received and neither acknowledged nor deferred."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	to <- g.backlog
	to <- g.deferred
	to <- g.held
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	for _, l := range g.queue.open() {
		backlog, deferred, held := l.counts()
		send := func(d *prometheus.Desc, v int64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), l.partner)
		}
		send(g.backlog, backlog)
		send(g.deferred, deferred)
		send(g.held, held)
	}
}
