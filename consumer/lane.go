package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"manna/gift"
	"manna/internal/notice"
	"manna/ledger"
	"manna/queue"
)

// The mark has to be in the log before the call, and a commit may take a while:
// attempts of a twentieth of a second are marked ahead, so that the rate is kept
// evenly at the partner's door. Where they are marked among a cluster's consumers
// too, which is another commit over the network, those of a tenth are.
const (
	marksShare   = 20
	clusterShare = 10
	minMarks     = 2
)

// pacer says when the next call may start: a Pacer, or this node's share of a rate
// that many share.
type pacer interface {
	Wait(context.Context) error
	SetRate(gift.Rate)
}

// lane serves one partner.
type lane struct {
	name    string
	c       *Consumer
	source  queue.Lane
	partner atomic.Pointer[Partner]
	pacer   pacer
	share   *share // the pacer, where the rate is shared; else nil
	slots   *slots
	// marks bounds how many attempts are marked in the log and still wait for the
	// rate: a crash leaves them in doubt although nothing was called.
	marks *slots
	// Marks among the cluster's consumers are made and concluded many at a time, and so
	// are choices.
	marking    gathering[ledger.Attempt, ledger.Standing]
	concluding gathering[ledger.Conclusion, struct{}]
	choosing   gathering[ledger.Choice, ledger.Choice]
	stall      stall
	counts     counters
	calling    atomic.Int64 // calls under way
	cancel     context.CancelFunc
	ending     atomic.Bool
	ended      chan struct{} // closed when run has returned
	logger     *slog.Logger
	// Each of these may befall every order of the lane at once.
	parked, overdue, waiting, unread, unwritten *notice.Repeated
}

func newLane(c *Consumer, p *Partner, source queue.Lane, cancel context.CancelFunc) *lane {
	logger := c.opts.Logger.With("partner", p.Name)
	l := &lane{
		name: p.Name, c: c, source: source, cancel: cancel, ended: make(chan struct{}),
		slots:     newSlots(p.MaxInFlight),
		marks:     newSlots(c.marks(p.Rate)),
		logger:    logger,
		parked:    notice.NewRepeated(logger, slog.LevelWarn, "order parked: a person is needed"),
		overdue:   notice.NewRepeated(logger, slog.LevelError, "order is past its promise"),
		waiting:   notice.NewRepeated(logger, slog.LevelWarn, "disk is full: an outcome waits"),
		unread:    notice.NewRepeated(logger, slog.LevelError, "cannot read an order's records; trying again"),
		unwritten: notice.NewRepeated(logger, slog.LevelError, "cannot write a record; the order is looked at again after a restart"),
	}
	l.stall.told, l.stall.gauge = notice.NewChanging(logger), c.metrics.waits.WithLabelValues(p.Name)
	l.marking.call, l.marking.limit = l.mark, ledger.MaxMarks
	l.concluding.call, l.concluding.limit = l.concludeMarks, ledger.MaxMarks
	if c.opts.Cluster != nil && c.opts.Cluster.Varies != nil {
		l.choosing.call, l.choosing.limit = c.opts.Cluster.Choices.Choose, ledger.MaxChoices
	}
	l.partner.Store(p)
	if q := c.opts.Quota; q != nil {
		l.share = newShare(p.Name, q, p.Rate, c.opts.Now, l.logger)
		l.pacer = l.share
	} else {
		l.pacer = NewPacer(p.Rate)
	}
	return l
}

// retryPause is how long a lane waits after its queue or log could not be read.
const retryPause = time.Second

// run takes orders and delivers each on a goroutine of its own, until ctx ends;
// then it waits for those under way.
func (l *lane) run(ctx context.Context) {
	defer close(l.ended)
	var calls, sharing sync.WaitGroup
	if l.share != nil {
		shared, stop := context.WithCancel(ctx)
		defer sharing.Wait()
		defer stop()
		sharing.Go(func() { l.share.run(shared) })
	}
	for l.slots.acquire(ctx) == nil {
		m, err := l.receive(ctx)
		if err != nil {
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
	l.partner.Load().Adapter.Close()
}

// receive waits for a message. Where the queue cannot be read it says so, loudly,
// and goes on trying; an error means that the lane ends.
func (l *lane) receive(ctx context.Context) (*queue.Message, error) {
	stopped := l.c.metrics.stopped.WithLabelValues(l.name)
	for {
		m, err := l.source.Receive(ctx)
		if err == nil {
			stopped.Set(0)
			return m, nil
		}
		if ctx.Err() != nil || errors.Is(err, queue.ErrClosed) {
			return nil, err
		}
		stopped.Set(1)
		l.logger.Error("lane cannot receive; trying again", "err", err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *lane) stop() {
	l.ending.Store(true)
	l.cancel()
}

// marks is how many attempts are marked ahead at a rate.
func (c *Consumer) marks(rate gift.Rate) int {
	share := marksShare
	if c.opts.Cluster != nil {
		share = clusterShare
	}
	return max(minMarks, int(rate)/share)
}

func (l *lane) reload(p *Partner) {
	old := l.partner.Swap(p)
	if old.Rate != p.Rate {
		l.pacer.SetRate(p.Rate)
		l.marks.resize(l.c.marks(p.Rate))
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
		Calls: l.counts.calls.Load(), Outcomes: l.counts.read(), Waits: l.stall.why(),
	}
	if l.share != nil {
		s.Quota = l.share.snapshot()
	}
	var err error
	if s.Queue, err = l.source.Status(ctx); err != nil {
		s.Problem = brief(err)
	}
	return s
}

// brief is one line of an error that may be joined of one for each of the lane's queues.
func brief(err error) string {
	all := joined(err)
	first := notice.OneLine(all[0].Error())
	if len(all) == 1 {
		return first
	}
	return fmt.Sprintf("%s (and %d more like it)", first, len(all)-1)
}

// joined lists the errors that errors.Join has made one of, or err alone. One that wraps
// several others has a text of its own.
func joined(err error) (all []error) {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(many.Unwrap()...).Error() {
		return []error{err}
	}
	for _, one := range many.Unwrap() {
		all = append(all, joined(one)...)
	}
	return all
}
