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

// feeder brings an engine what the log has, from its watermark on.
type feeder struct {
	engine queue.Feedable
	log    *fallbacklog.Log
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	through fallbacklog.Position // the engine has the claims before it
	moved   chan struct{}        // closed and replaced when through moves
}

func startFeeder(w *world, engine queue.Feedable) *feeder {
	w.t.Helper()
	f := &feeder{engine: engine, log: w.log, through: w.log.First(), moved: make(chan struct{})}
	row, ok, err := w.log.Last(fallbacklog.NamedID(fallbacklog.Sent, "test"))
	w.must(err)
	if ok {
		rec, err := w.log.Read(row.At)
		w.must(err)
		f.through = rec.Sent.Through
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	r := w.log.Reader(f.through, fallbacklog.Claimed)
	f.work.Go(func() {
		defer r.Close()
		for f.feed(ctx, r) == nil {
		}
	})
	return f
}

func (f *feeder) feed(ctx context.Context, r *fallbacklog.Reader) error {
	msgs, err := nextBatch(ctx, r)
	if err != nil {
		return err
	}
	for f.engine.Feed(ctx, msgs)() != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.through = r.Position()
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	return f.log.Append(ctx, &fallbacklog.Record{Kind: fallbacklog.Sent, Sent: &fallbacklog.Watermark{Queue: "test", Through: r.Position()}})
}

// nextBatch waits for one claim and takes what else is there.
func nextBatch(ctx context.Context, r *fallbacklog.Reader) (msgs []*queue.Message, err error) {
	rec, err := r.Next(ctx)
	for err == nil {
		for _, o := range rec.Claim.Orders {
			msgs = append(msgs, &queue.Message{Claim: rec.Claim, Encoded: r.Claim(), Order: o, Origin: rec.At})
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

// reach waits until the engine has the claim at p.
func (f *feeder) reach(ctx context.Context, p fallbacklog.Position) error {
	for {
		f.mu.Lock()
		through, moved := f.through, f.moved
		f.mu.Unlock()
		if through > p {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *feeder) stop() {
	f.cancel()
	f.work.Wait()
}
