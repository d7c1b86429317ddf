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
	"manna/gift"
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
	// Lanes gives the lanes that are served here, by partner; with Others, those of
	// the whole cluster. It is asked at the beginning of each run and, by a
	// Scheduler with Others, every 15 seconds.
	Lanes func() map[string]Lane
	// Others gives the other nodes' logs. Nil: there are none, and the lanes hold
	// nothing but what is in Log.
	Others Others
	// Fed is the name of the queue whose `sent` watermarks say what the nodes' feeders
	// have given to the lanes. Empty: the lanes follow the log themselves. Others
	// needs it.
	Fed string
	// Weigh has the stock weighed of claims that several nodes recorded: each took a gift,
	// and one is given. Nil: nobody does.
	Weigh func(ctx context.Context, claims []gift.ClaimID) error
	// Runs keeps the history of runs; with Others, that of all nodes, and it is
	// needed. Nil: there is none, and a Scheduler cannot be made.
	Runs Runs
	// Dir is where the reports go; it is created where it is missing.
	Dir  string
	Disk disk.Disk // default disk.OS{}
	// BacklogUnder is the gate: a run reissues only while fewer first deliveries
	// than this wait in all lanes together. Default 100000.
	BacklogUnder int64
	// Slack is how far apart the stamps of records and the lanes' watermarks may
	// lie, those of different nodes included, and how long a reissue may take from
	// its record to its lane. An order that was lost is found this much later.
	// Default one minute.
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
	if o.Others != nil && (o.Fed == "" || o.Runs == nil) {
		return errors.New("a reconciler of several nodes' logs needs the name of the queue that they feed, and the history of runs that fences them")
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
	samples *samples      // what the lanes said, where there are other nodes
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
	return &Reconciler{opts: opts, metrics: m, busy: make(chan struct{}, 1), samples: &samples{}}, nil
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
	now := r.look(ctx)
	logs, err := r.gather(ctx)
	if err != nil {
		return nil, err
	}
	defer logs.close()
	if err := logs.seal(ctx); err != nil {
		return nil, err
	}

	report := &Report{
		Run: q.Run(), Campaign: q.Campaign, DryRun: q.DryRun, Taken: now.began,
		Incomplete: []string{}, Discrepancies: []Discrepancy{},
	}
	if report.From, report.To, err = r.bounds(q, logs, now.began); err != nil {
		return nil, err
	}
	if !logs.alone() {
		if q.To.IsZero() {
			late, silent := logs.late(report.To, now.began)
			report.Later, report.Incomplete = late, append(report.Incomplete, silent...)
		}
		q.To = report.To
	}
	view := r.view(now, logs, report.To)
	report.Incomplete, report.AsOf, report.Nodes = append(report.Incomplete, view.missing...), view.asOf, logs.arrivals(now.began)
	if len(view.missing) == 0 {
		if view.rivals, err = r.rivals(ctx, e, logs); err != nil {
			return nil, err
		}
	}
	c := newComparison(logs.indexes, q, view.marks)
	if err := r.instruct(ctx, &c.judge, view, logs); err != nil {
		return nil, err
	}
	report.GateOpen, report.Gate = view.gate(r.opts.BacklogUnder)
	if q.DryRun {
		report.Gate += "; a dry run reissues nothing"
	}
	files, err := createReport(r.opts.Disk, r.opts.Dir, report.Run)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer files.abandon()
	s := &sink{names: c.names, marks: c.judge.marks, taken: now.began, out: files.lines, entry: e}
	if report.GateOpen && !q.DryRun {
		s.again = &reissue{log: r.opts.Log, read: logs.read, queue: r.opts.Queue, run: report.Run, entry: e, now: r.opts.Now}
	}
	several := &several{weigh: r.opts.Weigh}
	if several.weigh != nil && !q.DryRun {
		c.judge.several = several.add
	}
	total, err := c.run(ctx, r.opts.Workers, s.take)
	if err == nil {
		err = several.end(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := s.end(ctx); err != nil {
		return nil, err
	}
	r.fill(report, logs, view, c, total, s)
	report.TookS = time.Since(began).Seconds()
	report.Files = files.base
	// An old leader who wakes must not put its report over a newer one.
	if err := e.held(ctx); err != nil {
		return nil, err
	}
	if err := files.commit(report); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	s.alarm(r.opts.Logger, report.Run, report.GivenTwice)
	return report, nil
}

// fill completes the report with the totals.
func (r *Reconciler) fill(report *Report, logs *cluster, view *view, c *comparison, total *tally, s *sink) {
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
	for i := range logs.losses {
		if l := &logs.losses[i]; l.Until.After(report.From) && l.From.Before(report.To) {
			report.Incomplete = append(report.Incomplete, fmt.Sprintf("node %s: %v; %d orders became unknown on its account, and claims that were in it are missing from what was expected", l.node, &l.Loss, l.Doubts))
		}
	}
	for log, unfed := range total.unfed {
		if unfed > 0 && logs.others[log-1].Ended {
			report.Incomplete = append(report.Incomplete, fmt.Sprintf("node %s: it has left, and nobody gives %d orders of its log to their lanes: start it again, or retire it, and they are reissued", logs.others[log-1].Node, unfed))
		}
	}
	sortShares(report.Partners)
	report.Complete = len(report.Incomplete) == 0
	report.Expected, report.Actual, report.InFlight = report.Classes.Expected(), report.Classes.Actual(), report.Classes.InFlight
	report.GivenTwice = total.twice
	report.Found = report.Classes.Discrepancies() + total.twice
	report.Discrepancies = s.listed()
	report.Rows = total.rows
	if total.openSince != 0 {
		report.OpenSince = time.UnixMilli(total.openSince).UTC()
	}
	if s.again != nil {
		report.Reissued = s.again.count
	}
	report.whole = len(view.missing) == 0
	report.Done = !report.DryRun && asked && report.whole && (view.known || report.InFlight == 0) && (report.GateOpen || report.Classes.Open() == 0)
}

// bounds are the times between which a run looks at claims. Where the request
// leaves them open they are those of the logs' first record, and of now or, with
// other nodes, how far their logs are.
func (r *Reconciler) bounds(q Request, logs *cluster, now time.Time) (from, to time.Time, err error) {
	to, from = q.To, q.From
	switch {
	case !logs.alone() && (to.IsZero() || to.After(now)):
		if to = logs.until(now).UTC().Truncate(time.Millisecond); to.Before(from) {
			to = from
		}
	case to.IsZero():
		to = r.opts.Now().UTC().Truncate(time.Millisecond)
	}
	if !from.IsZero() {
		return from, to, nil
	}
	from = logs.first()
	first := r.opts.Log.Reader(0)
	defer first.Close()
	rec, err := first.TryNext()
	switch {
	case err == nil && (from.IsZero() || rec.Time.Before(from)):
		from = rec.Time
	case err != nil && !errors.Is(err, fallbacklog.ErrTail):
		return from, to, err
	}
	if from = from.Truncate(time.Millisecond); from.IsZero() || from.After(to) {
		from = to
	}
	return from, to, nil
}
