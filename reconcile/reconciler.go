package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/queue"
)

// Queue is where reissued orders go.
type Queue interface {
	// Send puts messages into their lanes. It returns nil when they cannot be
	// lost any more; after an error any part of them may be on its way.
	Send(ctx context.Context, msgs ...*queue.Message) error
}

// Options configure a Reconciler. Log, Queue, Lanes and Dir are required; zero
// values of the rest are replaced by the defaults named.
type Options struct {
	Log   *fallbacklog.Log
	Queue Queue
	// Lanes gives the lanes that are served here, by partner. It is asked at the
	// beginning of each run.
	Lanes func() map[string]Lane
	// Runs keeps the history of runs. Nil: there is none, and a Scheduler cannot
	// be made.
	Runs Runs
	// Dir is where the reports go; it is created where it is missing.
	Dir  string
	Disk disk.Disk // default disk.OS{}
	// BacklogUnder is the gate: a run reissues only while fewer first deliveries
	// than this wait in all lanes together. Default 100000.
	BacklogUnder int64
	// Slack is how far apart the stamps of records and the lanes' watermarks may
	// lie, and how long a reissue may take from its record to its lane. An order
	// that was lost is found this much later. Default one minute.
	Slack time.Duration
	// Workers is how many cores the merge uses; default all.
	Workers int
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time // default time.Now
}

func (o *Options) complete() error {
	if o.Log == nil || o.Queue == nil || o.Lanes == nil || o.Dir == "" {
		return errors.New("a reconciler needs a log, a queue, its lanes and a directory for reports")
	}
	if o.Disk == nil {
		o.Disk = disk.OS{}
	}
	if o.BacklogUnder <= 0 {
		o.BacklogUnder = 100_000
	}
	if o.Slack <= 0 {
		o.Slack = time.Minute
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Reconciler compares what was expected with what happened. Its methods are safe
// for concurrent use; one run is under way at a time and the others wait.
type Reconciler struct {
	opts    Options
	metrics *metrics
	busy    chan struct{} // holds a token while a run is under way
}

// New makes a Reconciler and removes what an interrupted run left half-written
// among the reports. It owns no goroutine.
func New(opts Options) (*Reconciler, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := cleanReports(opts.Disk, opts.Dir); err != nil {
		return nil, fmt.Errorf("reports in %s: %w", opts.Dir, err)
	}
	m, err := newMetrics(opts.Metrics)
	if err != nil {
		return nil, err
	}
	return &Reconciler{opts: opts, metrics: m, busy: make(chan struct{}, 1)}, nil
}

// Close withdraws the metrics.
func (r *Reconciler) Close() { r.metrics.unregister() }

// Run makes one run; the package comment has its steps. A report is returned and
// its files are written also where the gate was closed or lanes could not be
// asked: the report says so. An error means that the run did not come to its
// end; what it had reissued by then is in the log, and running it again does not
// do that twice. ErrHistory may come with the report: only its entry in the
// history is missing then.
func (r *Reconciler) Run(ctx context.Context, q Request) (*Report, error) {
	return r.run(ctx, q, time.Time{})
}

// run makes a run that takes the slot, where that is not zero.
func (r *Reconciler) run(ctx context.Context, q Request, slot time.Time) (*Report, error) {
	if err := q.complete(); err != nil {
		return nil, err
	}
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	report, err := r.recorded(ctx, q, slot)
	if err != nil {
		r.metrics.failures.Inc()
		err = fmt.Errorf("reconcile %s: %w", q.Run(), err)
	}
	if report != nil {
		r.metrics.observe(report)
		r.opts.Logger.Info("reconciled", "run", report.Run, "expected", report.Expected, "actual", report.Actual, "in_flight", report.InFlight,
			"discrepancies", report.Found, "reissued", report.Reissued, "complete", report.Complete, "gate", report.Gate, "took_s", report.TookS)
	}
	return report, err
}

// recorded makes a run with its entry in the history.
func (r *Reconciler) recorded(ctx context.Context, q Request, slot time.Time) (*Report, error) {
	e, err := r.begin(ctx, q, slot)
	if err != nil {
		return nil, err
	}
	report, err := r.examine(ctx, q, e)
	if err != nil {
		if told := e.fail(ctx, err); told != nil {
			r.opts.Logger.Warn("cannot write down that a run failed", "run", q.Run(), "err", told)
		}
		return nil, err
	}
	return report, e.finish(ctx, report)
}

// examine does the work of a run.
func (r *Reconciler) examine(ctx context.Context, q Request, e *entry) (*Report, error) {
	began := time.Now()
	// The order of these three is what makes the run exact; see the package
	// comment.
	mark := r.opts.Log.End()
	taken := r.opts.Now().UTC()
	marks := readWatermarks(ctx, r.opts.Lanes(), r.opts.Slack)
	indexes, err := r.opts.Log.Seal(ctx)
	if err != nil {
		return nil, fmt.Errorf("seal the log: %w", err)
	}
	losses, err := r.opts.Log.Losses()
	if err != nil {
		return nil, fmt.Errorf("what the log has lost: %w", err)
	}

	c := newComparison(indexes, q, marks)
	c.judge.mark, c.judge.read = mark, r.opts.Log.Read
	report := &Report{
		Run: q.Run(), Campaign: q.Campaign, DryRun: q.DryRun, Taken: taken,
		Incomplete: []string{}, Discrepancies: []Discrepancy{},
	}
	if report.From, report.To, err = r.bounds(q); err != nil {
		return nil, err
	}
	report.GateOpen, report.Gate = gate(marks, r.opts.BacklogUnder)
	if q.DryRun {
		report.Gate += "; a dry run reissues nothing"
	}
	files, err := createReport(r.opts.Disk, r.opts.Dir, report.Run)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer files.abandon()
	s := &sink{names: c.names, marks: c.judge.marks, taken: taken, out: files.lines, entry: e}
	if report.GateOpen && !q.DryRun {
		s.again = &reissue{log: r.opts.Log, queue: r.opts.Queue, run: report.Run, entry: e, now: r.opts.Now}
	}
	total, err := c.run(ctx, r.opts.Workers, s.take)
	if err != nil {
		return nil, err
	}
	if err := s.end(ctx); err != nil {
		return nil, err
	}
	r.fill(report, c, total, s, losses)
	report.TookS = time.Since(began).Seconds()
	report.Files = files.base
	// An old leader who wakes must not put its report over a newer one.
	if err := e.held(ctx); err != nil {
		return nil, err
	}
	if err := files.commit(report); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	s.alarm(r.opts.Logger, report.Run)
	return report, nil
}

// fill completes the report with the totals.
func (r *Reconciler) fill(report *Report, c *comparison, total *tally, s *sink, losses []fallbacklog.Loss) {
	node := r.opts.Log.Node()
	asked := true
	for lane := range max(len(total.lanes), len(c.judge.marks)) {
		var counts Counts
		if lane < len(total.lanes) {
			counts = total.lanes[lane]
		}
		var w watermarks
		if lane < len(c.judge.marks) {
			w = c.judge.marks[lane]
		}
		partner := c.names.name(uint16(lane))
		report.Classes.add(counts)
		if counts != (Counts{}) || w.served {
			report.Partners = append(report.Partners, Share{Partner: partner, Expected: counts.Expected(), Actual: counts.Actual(), Backlog: w.backlog, Classes: counts})
		}
		switch {
		case w.err != nil:
			asked = false
			report.Incomplete = append(report.Incomplete, fmt.Sprintf("node %s: lane %s could not be asked (%v); its %d orders that are not final count as in flight", node, partner, w.err, counts.InFlight))
		case !w.served && counts.Open() > 0:
			report.Incomplete = append(report.Incomplete, fmt.Sprintf("node %s: lane %s is not served here; its %d orders that are not final are not reissued", node, partner, counts.Open()))
		}
	}
	for _, loss := range losses {
		if loss.Until.After(report.From) && loss.From.Before(report.To) {
			report.Incomplete = append(report.Incomplete, fmt.Sprintf("node %s: %v; %d orders became unknown on its account, and claims that were in it are missing from what was expected", node, &loss, loss.Doubts))
		}
	}
	sortShares(report.Partners)
	report.Complete = len(report.Incomplete) == 0
	report.Expected, report.Actual, report.InFlight = report.Classes.Expected(), report.Classes.Actual(), report.Classes.InFlight
	report.Found = report.Classes.Discrepancies()
	report.Discrepancies = s.listed()
	report.Rows = total.rows
	if total.openSince != 0 {
		report.OpenSince = time.UnixMilli(total.openSince).UTC()
	}
	if s.again != nil {
		report.Reissued = s.again.count
	}
	report.Done = !report.DryRun && asked && (report.GateOpen || report.Classes.Open() == 0)
}

// bounds are the times between which a run looks at claims: where the request
// leaves them open, those of the log's first record and of now.
func (r *Reconciler) bounds(q Request) (from, to time.Time, err error) {
	if to = q.To; to.IsZero() {
		to = r.opts.Now().UTC().Truncate(time.Millisecond)
	}
	if from = q.From; !from.IsZero() {
		return from, to, nil
	}
	first := r.opts.Log.Reader(0)
	defer first.Close()
	rec, err := first.TryNext()
	if errors.Is(err, fallbacklog.ErrTail) {
		return to, to, nil
	}
	if err != nil {
		return from, to, err
	}
	return rec.Time.Truncate(time.Millisecond), to, nil
}
