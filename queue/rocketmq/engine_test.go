//go:build engines

package rocketmq_test

import (
	"context"
	"flag"
	"testing"

	"manna/queue"
	"manna/queue/queuetest"
	"manna/queue/rocketmq"
)

func TestRocketMQKeepsTheLaneContract(t *testing.T) {
	fewerChecks(t)
	r := newRig(t)
	const queues = 4
	queuetest.Run(t, queuetest.Engine{Queues: queues, Open: func(ctx context.Context, _ queuetest.Node) (queue.Queue, error) {
		opts := r.options("a", queues)
		opts.Metrics = nil
		return rocketmq.Open(ctx, opts)
	}})
}

// fewerChecks has the suite's property make few runs, unless somebody asks for
// another number: here each takes seconds.
func fewerChecks(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("5"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Value.Set(f.DefValue) })
	}
}
