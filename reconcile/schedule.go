package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"manna/fallbacklog"
	"manna/internal/schedule"
	"manna/ledger"
)

const (
	// maxCatchUp is how many missed slots get a report of their own; what was
	// missed before them is looked at in one run.
	maxCatchUp = 48
	// The pauses while the history is not to be had.
	minPause = time.Second
	maxPause = time.Minute
)

// Scheduler runs the slots: each UTC hour, after it has ended, in order. The
// package comment says which runs a tick makes.
type Scheduler struct {
	r     *Reconciler
	times cron.Schedule
	// looked is the time up to which every order that can still change has been
	// looked at since the start: the hour of the oldest order that is not final.
	// Zero: nothing has been.
	looked time.Time
}

// NewScheduler makes a Scheduler for a specification of package schedule, like
// "7 * * * *".
func NewScheduler(r *Reconciler, spec string) (*Scheduler, error) {
	if r.opts.Runs == nil {
		return nil, errors.New("a scheduler needs the history of runs")
	}
	times, err := schedule.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("cron: %w: %s", err, schedule.Want)
	}
	return &Scheduler{r: r, times: times}, nil
}

// Run catches up what was missed, then runs at each tick until ctx ends. It
// returns ctx's error; whatever else fails is logged and tried again. Where there
// are other nodes it also keeps looking at the lanes, which the runs need.
func (s *Scheduler) Run(ctx context.Context) error {
	if s.r.opts.Others != nil {
		watched, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { s.r.watch(watched) })
		defer watching.Wait()
		defer stop()
	}
	logger := cronLogger{s.r.opts.Logger}
	// In this order, or a panic would leave the job locked for good.
	chain := cron.WithChain(cron.SkipIfStillRunning(logger), cron.Recover(logger))
	c := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(logger), chain)
	id := c.Schedule(s.times, cron.FuncJob(func() { s.tick(ctx) }))
	// The first tick is now: through the chain, like all others.
	c.Entry(id).WrappedJob.Run()
	c.Start()
	<-ctx.Done()
	<-c.Stop().Done()
	return ctx.Err()
}

// tick runs every slot that has ended and is not done, then looks a second time
// at what is older.
func (s *Scheduler) tick(ctx context.Context) {
	if err := s.slots(ctx); err != nil && ctx.Err() == nil {
		s.r.opts.Logger.Error("reconciliation did not come to its end; it is run again at the next tick", "err", err)
	}
}

func (s *Scheduler) slots(ctx context.Context) error {
	for {
		now := s.r.opts.Now().UTC().Truncate(time.Hour)
		next, err := s.next(ctx)
		if err != nil {
			return err
		}
		if next.IsZero() || !next.Before(now) {
			s.r.metrics.behind.Set(0)
			if next.IsZero() {
				return nil // there has been no claim yet
			}
			return s.again(ctx, now.Add(-time.Hour))
		}
		missed := int(now.Sub(next) / time.Hour)
		s.r.metrics.behind.Set(float64(missed))
		q, slot := Slot(next), next
		if missed > maxCatchUp {
			slot = now.Add(-(maxCatchUp + 1) * time.Hour)
			q.To = slot.Add(time.Hour)
		}
		q.By = "cron"
		report, err := s.run(ctx, q, slot)
		switch {
		case errors.Is(err, ledger.ErrSlotTaken):
			// Another has run it meanwhile.
			if last, err := s.next(ctx); err != nil || !last.After(next) {
				return err
			}
		case errors.Is(err, ledger.ErrSlotHeld):
			s.r.opts.Logger.Info("another runs the slot", "slot", slot, "err", err)
			return nil
		case err != nil:
			return err
		case !report.Done:
			// Those after it would not be done either: one look at all of them says
			// as much.
			s.r.opts.Logger.Warn("a slot is not done; it is run again at the next tick", "run", report.Run, "why", report.undone())
			return s.again(ctx, now)
		}
	}
}

// next is the oldest slot that is not done: the one after the last that is, or
// the hour of the log's first claim. Zero: there is none.
func (s *Scheduler) next(ctx context.Context) (time.Time, error) {
	var slots ledger.Slots
	err := s.patiently(ctx, func() (err error) {
		if slots, err = s.r.opts.Runs.LastSlot(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrHistory, err)
		}
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	if !slots.Finished.IsZero() {
		return slots.Finished.UTC().Truncate(time.Hour).Add(time.Hour), nil
	}
	return s.beginning(ctx)
}

// beginning is the hour of the first claim, or with other nodes of an earlier
// record. Zero: there is no claim yet.
func (s *Scheduler) beginning(ctx context.Context) (time.Time, error) {
	logs, err := s.r.gather(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer logs.close()
	at := logs.first()
	r := s.r.opts.Log.Reader(0, fallbacklog.Claimed)
	defer r.Close()
	first, err := r.TryNext()
	switch {
	case err == nil && (at.IsZero() || first.Time.Before(at)):
		at = first.Time
	case err != nil && !errors.Is(err, fallbacklog.ErrTail):
		return time.Time{}, err
	}
	if at.IsZero() {
		return at, nil
	}
	return at.UTC().Truncate(time.Hour), nil
}

// again looks at everything before to that may have changed since the last look:
// the hour before, and all hours since the oldest order that was not final. Right
// after a start that is the whole log. Of several nodes only the one does it that
// ran the last slot.
func (s *Scheduler) again(ctx context.Context, to time.Time) error {
	if yes, err := s.leads(ctx); !yes || err != nil {
		return err
	}
	from := s.looked
	if hour := to.Add(-time.Hour); hour.Before(from) {
		from = hour
	}
	report, err := s.run(ctx, Request{From: from, To: to, By: "cron"}, time.Time{})
	if err != nil {
		return err
	}
	if !report.whole {
		s.looked = from // what is missing may be of any hour
		return nil
	}
	s.looked = to
	if report.OpenSince.Before(to) && !report.OpenSince.IsZero() {
		s.looked = report.OpenSince.Truncate(time.Hour)
	}
	return nil
}

// run makes a run, waiting while the history is not to be had.
func (s *Scheduler) run(ctx context.Context, q Request, slot time.Time) (report *Report, err error) {
	err = s.patiently(ctx, func() error {
		report, err = s.r.run(ctx, q, slot)
		return err
	})
	return report, err
}

// patiently repeats do for as long as the history is not to be had.
func (s *Scheduler) patiently(ctx context.Context, do func() error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := do()
		switch {
		case err == nil, ctx.Err() != nil:
			return err
		case errors.Is(err, ledger.ErrSlotTaken), errors.Is(err, ledger.ErrSlotHeld), errors.Is(err, ledger.ErrFenced), errors.Is(err, ledger.ErrRunExists):
			// These are answers.
			return err
		case !errors.Is(err, ErrHistory):
			return err
		}
		s.r.opts.Logger.Warn("reconciliation waits for the history of runs", "err", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cronLogger brings cron's words into the log.
type cronLogger struct{ to *slog.Logger }

func (l cronLogger) Info(msg string, args ...any) { l.to.Debug("cron: "+msg, args...) }

func (l cronLogger) Error(err error, msg string, args ...any) {
	l.to.Error("cron: "+msg, append([]any{"err", err}, args...)...)
}
