package embedded_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/queue"
	"manna/queue/embedded"
	"manna/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEmbeddedKeepsTheLaneContract(t *testing.T) {
	for name, every := range map[string]time.Duration{"with checkpoints at any time": 200 * time.Microsecond, "with checkpoints at close alone": time.Hour} {
		t.Run(name, func(t *testing.T) {
			queuetest.Run(t, queuetest.Engine{Exact: true, Open: func(ctx context.Context, n queuetest.Node) (queue.Queue, error) {
				return embedded.Open(ctx, embedded.Options{Log: n.Log, Dir: n.Dir, Disk: n.Disk, CheckpointEvery: every})
			}})
		})
	}
}
