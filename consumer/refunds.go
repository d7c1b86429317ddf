package consumer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"manna/internal/notice"
)

const (
	// refundEvery is how often a consumer gives back what came to nothing. Each of a
	// cluster's does, for any may be the last.
	refundEvery = 3 * time.Second
	// refundLimit bounds the refusals that are weighed in a call.
	refundLimit = 1000
)

// refund has the common stock take back the gifts of claims that were refused whole,
// until ctx ends. It follows from what the ledger has of all logs, so a crash between
// a refusal and its refund, and a ledger that was away, only make it later.
func (c *Consumer) refund(ctx context.Context) {
	failed := notice.NewRepeated(c.opts.Logger, slog.LevelError, "refused claims' gifts do not go back to the stock yet; trying again")
	for {
		for weighed := refundLimit; weighed == refundLimit; {
			var err error
			if weighed, err = c.opts.Cluster.Stock.RefundRefused(ctx, refundLimit); err != nil && ctx.Err() == nil {
				failed.Tell("err", err)
			}
			if err != nil {
				break
			}
		}
		select {
		case <-time.After(refundEvery*4/5 + rand.N(refundEvery*2/5)):
		case <-ctx.Done():
			return
		}
	}
}
