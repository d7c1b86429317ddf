package rocketmq

import (
	"context"
	"log/slog"
	"time"
)

// tellEvery is how often trouble that lasts is told.
const tellEvery = time.Minute

// trouble tells of something that is tried again and again: when it begins, every
// minute, and when it is over. It belongs to one goroutine.
type trouble struct {
	logger *slog.Logger
	what   string
	wait   time.Duration
	since  time.Time
	told   time.Time
}

func newTrouble(l *slog.Logger, what string, args ...any) *trouble {
	return &trouble{logger: l.With(args...), what: what}
}

// pause waits before the next try, longer each time; false when ctx has ended.
func (t *trouble) pause(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	now := time.Now()
	if t.since.IsZero() {
		t.since, t.wait = now, pauseMin
	}
	if now.Sub(t.told) >= tellEvery {
		t.told = now
		t.logger.Warn(t.what, "since", t.since, "err", err)
	}
	wait := t.wait
	t.wait = min(2*t.wait, pauseMax)
	return pauseFor(ctx, wait)
}

func (t *trouble) over() {
	if !t.since.IsZero() {
		t.logger.Info("over: "+t.what, "since", t.since)
		t.since, t.told = time.Time{}, time.Time{}
	}
}

// pauseFor waits; false when ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
