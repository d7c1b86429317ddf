package node

import "github.com/prometheus/client_golang/prometheus"

// measure registers what no room measures for itself.
func (n *Node) measure() {
	n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "manna_log_free_bytes", Help: "Room on the disk of the fallback log; -1 while that is not known.",
	}, func() float64 {
		free, err := n.log.Free()
		if err != nil {
			return -1
		}
		return float64(free)
	}))
	if n.member != nil {
		n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "manna_clock_ahead_seconds", Help: "How far this node's clock is ahead of the register's; 0 as long as it is not certainly wrong.",
		}, func() float64 { return n.member.clock.ahead().Seconds() }))
	}
	if n.feeder != nil {
		n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "manna_feed_behind_seconds", Help: "Time since the oldest claim was made that the queue does not have yet.",
		}, func() float64 { return n.feeder.Behind().Seconds() }))
		n.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "manna_feed_parked_total", Help: "Orders parked because the queue can never take them, or takes none of their partner.",
		}, func() float64 { return float64(n.feeder.Parked()) }))
	}
}
