package queuetest

import (
	"context"
	"errors"
	"sync"

	"manna/fallbacklog"
	"manna/queue"
)

// feedBatch bounds the messages of one Feed.
const feedBatch = 100

// feed brings an engine what the log has, from its watermark on, until stopped.
func (w *world) feed(f queue.Feedable) (stop func()) {
	w.t.Helper()
	id := fallbacklog.NamedID(fallbacklog.Sent, "test")
	from := w.log.First()
	if row, ok, err := w.log.Last(id); err != nil {
		w.t.Fatalf("%v", err)
	} else if ok {
		rec, err := w.log.Read(row.At)
		w.must(err)
		from = rec.Sent.Through
	}
	ctx, cancel := context.WithCancel(context.Background())
	var feeding sync.WaitGroup
	log := w.log
	feeding.Go(func() {
		r := log.Reader(from, fallbacklog.Claimed)
		defer r.Close()
		for ctx.Err() == nil {
			msgs, err := nextBatch(ctx, r)
			if err != nil {
				return
			}
			for f.Feed(ctx, msgs) != nil {
				if ctx.Err() != nil {
					return
				}
			}
			sent := &fallbacklog.Record{Kind: fallbacklog.Sent, Sent: &fallbacklog.Watermark{Queue: "test", Through: r.Position()}}
			if log.Append(ctx, sent) != nil {
				return
			}
		}
	})
	return func() {
		cancel()
		feeding.Wait()
	}
}

// nextBatch waits for one claim and takes what else is there.
func nextBatch(ctx context.Context, r *fallbacklog.Reader) (msgs []*queue.Message, err error) {
	rec, err := r.Next(ctx)
	for err == nil {
		for _, o := range rec.Claim.Orders {
			msgs = append(msgs, &queue.Message{Claim: rec.Claim, Order: o, Origin: rec.At})
		}
		if len(msgs) >= feedBatch {
			return msgs, nil
		}
		rec, err = r.TryNext()
	}
	if errors.Is(err, fallbacklog.ErrTail) {
		err = nil
	}
	return msgs, err
}
