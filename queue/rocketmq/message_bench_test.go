package rocketmq

import (
	"testing"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

// BenchmarkDecodeMessage reads a first delivery as most are: a claim of one order.
func BenchmarkDecodeMessage(b *testing.B) {
	c := *pack()
	c.Orders = append([]gift.Order(nil), c.Orders[0])
	body, err := appendBody(nil, &queue.Message{Claim: &c, Order: c.Orders[0], Origin: 4711}, "front-a", string(fallbacklog.AppendClaim(nil, &c)))
	if err != nil {
		b.Fatal(err)
	}
	s := &stored{body: body, props: []byte("WAIT\x01true\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02")}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := decodeMessage(s, "midas", "front-a"); err != nil {
			b.Fatal(err)
		}
	}
}
