package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/queue"
)

// Queue is the embedded engine. Its methods are safe for concurrent use.
//
// Locks are taken in the order Queue.mu, Lane.mu.
type Queue struct {
	opts   Options
	log    *fallbacklog.Log
	gauges *gauges
	census census
	cancel context.CancelFunc
	work   sync.WaitGroup // the tail and the keeper of checkpoints
	dirty  chan struct{}  // some lane has changed since its checkpoint
	failed chan struct{}  // closed when the log is not followed any more

	mu     sync.Mutex
	lanes  map[string]*Lane
	seen   fallbacklog.Position // the lanes know everything before
	mark   mark                 // the last record of interest before seen
	moved  chan struct{}        // closed and cleared when seen moves; nil while nobody waits
	err    error                // why failed is closed
	closed bool
}

var _ queue.Queue = (*Queue)(nil)

// Open starts the queue over a log. It fails where a lane's checkpoint has seen
// more than the log has. The log must stay open until the queue has been closed.
func Open(ctx context.Context, opts Options) (*Queue, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := opts.Disk.MkdirAll(opts.Dir); err != nil {
		return nil, err
	}
	if err := checkReach(&opts); err != nil {
		return nil, err
	}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	q := &Queue{
		opts: opts, log: opts.Log, cancel: cancel, dirty: make(chan struct{}, 1), failed: make(chan struct{}),
		lanes: make(map[string]*Lane), seen: opts.Log.End(),
	}
	q.gauges = newGauges(q)
	if err := opts.Metrics.Register(q.gauges); err != nil {
		cancel()
		return nil, err
	}
	q.work.Add(2)
	go q.follow(follow)
	go q.keep(follow)
	return q, nil
}

// Reached tells how far the lanes in dir had read their log by their checkpoints:
// what fallbacklog.Open is to compare the log with. A checkpoint that cannot be
// used tells nothing; its lane says so when it is opened, and does without.
func Reached(d disk.Disk, dir string) (fallbacklog.Reached, error) {
	var reached fallbacklog.Reached
	names, err := d.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return reached, nil
	}
	if err != nil {
		return reached, err
	}
	for _, name := range names {
		partner, ok := strings.CutSuffix(name, laneSuffix)
		if !ok {
			continue
		}
		if c, err := readCheckpoint(d, filepath.Join(dir, name)); err == nil && c.through > reached.At {
			reached = fallbacklog.Reached{At: c.through, By: "lane " + partner}
		}
	}
	return reached, nil
}

// checkReach fails where a lane has seen more than the log has.
func checkReach(o *Options) error {
	reached, err := Reached(o.Disk, o.Dir)
	if err != nil {
		return err
	}
	if end := o.Log.End(); reached.At > end {
		return fmt.Errorf("%s: the log ends at %v, before %v, what the lane has seen: segments are missing; put them back, or let `manna log repair` take note of what they held", reached.By, end, reached.At)
	}
	return nil
}

// Lane implements queue.Queue.
func (q *Queue) Lane(ctx context.Context, partner string) (queue.Lane, error) {
	if err := gift.CheckName(partner); err != nil {
		return nil, fmt.Errorf("lane: %w", err)
	}
	l := newLane(q, partner)
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return nil, queue.ErrClosed
	case q.lanes[partner] != nil:
		q.mu.Unlock()
		return nil, fmt.Errorf("lane %s is already open", partner)
	}
	// From here on the tail brings the lane what the log gets; load finds what it
	// had before.
	q.lanes[partner] = l
	through := q.seen
	q.mu.Unlock()
	if err := l.load(ctx, through); err != nil {
		q.remove(l)
		return nil, fmt.Errorf("lane %s: %w", partner, err)
	}
	l.touch()
	return l, nil
}

func (q *Queue) remove(l *Lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.lanes, l.partner)
}

// open lists the lanes that can be received from.
func (q *Queue) open() []*Lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	lanes := make([]*Lane, 0, len(q.lanes))
	for _, l := range q.lanes {
		if l.isOpen() {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// Send implements queue.Queue. The lanes take reissues from the log, so all that
// is left to do is to see that they have. A message for a lane that is not open
// is received when it is.
func (q *Queue) Send(ctx context.Context, msgs ...*queue.Message) error {
	for _, m := range msgs {
		row, ok, err := q.log.Last(m.Order.ID)
		if err != nil {
			return err
		}
		if !ok || row.Kind == fallbacklog.Claimed {
			return fmt.Errorf("order %v: send: the log has no reissued record of it", m.Order.ID)
		}
	}
	return q.reach(ctx, q.log.End())
}

// Close implements queue.Queue.
func (q *Queue) Close(context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	q.mu.Unlock()
	var failed error
	for _, l := range q.open() {
		failed = errors.Join(failed, l.Close())
	}
	q.cancel()
	q.work.Wait()
	q.end(queue.ErrClosed)
	q.opts.Metrics.Unregister(q.gauges)
	return failed
}

// keep writes the checkpoints of lanes that have changed.
func (q *Queue) keep(ctx context.Context) {
	defer q.work.Done()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	every := q.opts.CheckpointEvery
	for {
		select {
		case <-q.dirty:
		case <-ctx.Done():
			return
		}
		pause.Reset(every)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		for _, l := range q.open() {
			if err := l.save(); err != nil {
				q.opts.Logger.Error("cannot write the checkpoint of a lane; a restart will have to read more of the log", "lane", l.partner, "err", err)
				l.touch()
			}
		}
		// Large schedules are written less often, so that they take a twentieth of
		// the disk's time at most.
		every = max(q.opts.CheckpointEvery, 20*time.Since(began))
	}
}
