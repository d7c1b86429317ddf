package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"manna/queue"
)

// lane serves one partner.
type lane struct {
	name    string
	c       *Consumer
	source  queue.Lane
	partner atomic.Pointer[Partner]
	pacer   *Pacer
	slots   *slots
	counts  counters
	calling atomic.Int64 // calls under way
	cancel  context.CancelFunc
	logger  *slog.Logger
}

func newLane(c *Consumer, p *Partner, source queue.Lane, cancel context.CancelFunc) *lane {
	l := &lane{
		name: p.Name, c: c, source: source, cancel: cancel,
		pacer: NewPacer(p.Rate), slots: newSlots(p.MaxInFlight),
		logger: c.opts.Logger.With("partner", p.Name),
	}
	l.partner.Store(p)
	return l
}

// run takes orders and delivers each on a goroutine of its own, until ctx ends;
// then it waits for those under way.
func (l *lane) run(ctx context.Context) {
	var calls sync.WaitGroup
	for {
		if l.slots.acquire(ctx) != nil {
			break
		}
		m, err := l.source.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, queue.ErrClosed) {
				// The lane cannot go on, and the others can: that is for a person.
				l.logger.Error("lane stopped: cannot receive", "err", err)
				l.c.metrics.stopped.WithLabelValues(l.name).Set(1)
			}
			break
		}
		calls.Go(func() {
			defer l.slots.release()
			l.deliver(ctx, m)
		})
	}
	calls.Wait()
	if err := l.source.Close(); err != nil && !errors.Is(err, queue.ErrClosed) {
		l.logger.Error("cannot close the lane's queue", "err", err)
	}
}

func (l *lane) stop() { l.cancel() }

func (l *lane) reload(p *Partner) {
	old := l.partner.Swap(p)
	if old.Rate != p.Rate {
		l.pacer.SetRate(p.Rate)
	}
	l.slots.resize(p.MaxInFlight)
	if old.Adapter != p.Adapter {
		old.Adapter.Close()
	}
}

func (l *lane) status(ctx context.Context) LaneStatus {
	p := l.partner.Load()
	s := LaneStatus{
		Partner: l.name, Rate: p.Rate, InFlight: int(l.calling.Load()), Breaker: p.Breaker.Snapshot(),
		Calls: l.counts.calls.Load(), Outcomes: l.counts.read(),
	}
	var err error
	if s.Queue, err = l.source.Status(ctx); err != nil {
		s.Problem = err.Error()
	}
	return s
}
