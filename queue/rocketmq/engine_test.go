//go:build engines

package rocketmq_test

import (
	"context"
	"testing"

	"manna/queue"
	"manna/queue/queuetest"
	"manna/queue/rocketmq"
)

func TestRocketMQKeepsTheLaneContract(t *testing.T) {
	r := newRig(t)
	const queues = 4
	queuetest.Run(t, queuetest.Engine{Queues: queues, Checks: 5, Open: func(ctx context.Context, _ queuetest.Node) (queue.Queue, error) {
		opts := r.options("a", queues)
		opts.Metrics = nil
		return rocketmq.Open(ctx, opts)
	}})
}
