package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
)

const (
	// pace is how often a follower at the end of the log looks at most.
	pace = 100 * time.Millisecond
	// idle is how often a follower at the end of a log at rest tells the ledger
	// so, and how often it stores a place that moved over records of no interest.
	idle = time.Second
	// rest is how many times as long as it works a follower rests while the log
	// grows: claims need the processor more, and the ledger may lag. What was
	// accepted in a night's rush it takes in when the rush is over.
	rest = 9
	// batchTime is for how long a batch is read.
	batchTime = 100 * time.Millisecond

	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// FollowerOptions configure a follower. Log and Store are required; zero values
// of the rest are replaced by the defaults named.
type FollowerOptions struct {
	Log   *fallbacklog.Log
	Store Store
	// BatchRecords bounds what is read for a batch. Default 20,000: users come in no
	// order, so a batch touches nearly every page of its table once, and a larger one
	// shares that cost.
	BatchRecords int
	Logger       *slog.Logger
	Metrics      prometheus.Registerer
	Now          func() time.Time // default time.Now
}

// Follower takes one node's log into a ledger. Its methods are safe for
// concurrent use; Run is called once.
type Follower struct {
	opts    FollowerOptions
	metrics *metrics

	mu    sync.Mutex // guards the next fields
	place Place
	err   error         // why it does not get on
	moved chan struct{} // closed and replaced when place moves
}

// NewFollower makes a follower; Run lets it work.
func NewFollower(opts FollowerOptions) (*Follower, error) {
	if opts.Log == nil || opts.Store == nil {
		return nil, errors.New("a follower needs a log and a ledger")
	}
	if opts.BatchRecords <= 0 {
		opts.BatchRecords = 20_000
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Follower{opts: opts, moved: make(chan struct{})}
	f.metrics = newMetrics(f)
	return f, nil
}

// Run follows the log until ctx ends, and returns nil then; ctx is ended before
// the log and the ledger are closed. Run fails only where the metrics cannot be
// registered and where the log is poisoned; everything else it waits out.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.metrics.register(f.opts.Metrics); err != nil {
		return err
	}
	defer f.metrics.unregister(f.opts.Metrics)
	wait := minBackoff
	for {
		before := f.Position()
		err := f.follow(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, fallbacklog.ErrClosed):
			return nil
		case errors.Is(err, fallbacklog.ErrPoisoned):
			return err
		case errors.Is(err, ErrMoved):
			// Not a failure: the commit whose answer was lost, or another
			// follower. The next round asks where the ledger stands.
			f.opts.Logger.Debug("ledger stands elsewhere", "err", err)
		default:
			f.fails(err)
			if errors.Is(err, ErrDamaged) {
				if err := f.rebuild(ctx, err.Error()); err != nil {
					f.fails(err)
				}
			}
		}
		if f.Position() != before {
			wait = minBackoff
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
		wait = min(2*wait, maxBackoff)
	}
}

// follow applies batch after batch. It returns only with an error.
func (f *Follower) follow(ctx context.Context) error {
	place, err := f.begin(ctx)
	if err != nil {
		return err
	}
	log, from := f.opts.Log, place.Position
	if place.Mark.At == 0 {
		// Nothing shows that this is the log in which the place was reached, and
		// nothing was taken in: reading it again costs little.
		from = 0
	}
	f.setPlace(Place{Position: from, Mark: place.Mark, AsOf: place.AsOf})
	kinds := []fallbacklog.Kind{fallbacklog.Claimed, fallbacklog.Switched}
	if f.opts.Store.WantsOutcomes() {
		kinds = append(append(kinds, OrderKinds()...), fallbacklog.Returned)
	}
	r := log.Reader(from, kinds...)
	defer r.Close()
	stored := f.opts.Now() // when a place was stored last
	for {
		began, end := f.opts.Now(), log.End()
		b, tail, err := f.collect(ctx, r, place)
		if err != nil {
			return err
		}
		// Where others read the place, they wait for nodes whose log they do not have whole.
		if b.Records() > 0 || b.Through.Position != place.Position && (f.opts.Store.WantsOutcomes() || began.Sub(stored) >= idle) {
			if err := f.opts.Store.Apply(ctx, b); err != nil {
				return err
			}
			place, stored = b.Through, began
			f.metrics.applied.Add(float64(b.Records()))
		} else if tail {
			if err := f.opts.Store.Seen(ctx, b.Node, b.Through.AsOf); err != nil {
				return err
			}
		}
		// What lies between the stored place and the reader's is of no interest,
		// so the ledger has all that the reader has passed.
		f.gotTo(Place{Position: r.Position(), Mark: place.Mark, AsOf: b.Through.AsOf})
		took := f.opts.Now().Sub(began)
		if tail {
			if err := waitFor(ctx, log, r.Position()); err != nil {
				return err
			}
			sleep(ctx, pace-f.opts.Now().Sub(began))
		}
		if log.End() != end {
			sleep(ctx, min(rest*took, idle))
		}
	}
}

// collect reads the next batch. tail: the log had nothing more.
func (f *Follower) collect(ctx context.Context, r *fallbacklog.Reader, from Place) (b *Batch, tail bool, err error) {
	b = &Batch{Node: f.opts.Log.Node(), From: from.Position, Through: from, Outcomes: f.opts.Store.WantsOutcomes()}
	began := f.opts.Now()
	for now := began; b.Records() < f.opts.BatchRecords && now.Sub(began) < batchTime; now = f.opts.Now() {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			// Whatever was accepted before now had been durable, and was read.
			tail, b.Through.AsOf = true, now
			break
		}
		if err != nil {
			return nil, false, err
		}
		b.Add(rec)
	}
	b.Through.Position = r.Position()
	return b, tail, nil
}

// begin asks where the ledger stands, and drops what was derived from another
// log than this one.
func (f *Follower) begin(ctx context.Context) (Place, error) {
	log, store := f.opts.Log, f.opts.Store
	place, err := store.Place(ctx, log.Node())
	if err != nil {
		return Place{}, err
	}
	why, err := f.strange(place)
	if err != nil {
		return Place{}, err
	}
	if why != "" {
		if err := f.rebuild(ctx, why); err != nil {
			return Place{}, err
		}
		place = Place{}
	}
	if p := place.Position; p != 0 && p < log.First() {
		f.opts.Logger.Error("the log begins behind the ledger's place: claims between the two are missing from the ledger",
			"node", log.Node(), "place", p, "log_begins", log.First())
	}
	return place, nil
}

// strange says why the place cannot be one of this log; it is empty where it can.
func (f *Follower) strange(p Place) (why string, err error) {
	log := f.opts.Log
	if p.Position > log.End() {
		return fmt.Sprintf("the ledger stands at %v and the log ends at %v", p.Position, log.End()), nil
	}
	if p.Mark.At < log.First() {
		return "", nil // nothing has been taken in, or it is not there to be looked at
	}
	rec, err := log.Read(p.Mark.At)
	var corrupt *fallbacklog.CorruptError
	switch {
	case errors.As(err, &corrupt) || errors.Is(err, fallbacklog.ErrNotFound) || errors.Is(err, fallbacklog.ErrTail):
		return fmt.Sprintf("the log has no record at %v, which the ledger took in", p.Mark.At), nil
	case err != nil:
		return "", err
	case MarkOf(rec) != p.Mark:
		return fmt.Sprintf("the log has another record at %v than the ledger took in", p.Mark.At), nil
	}
	return "", nil
}

// rebuild drops what was derived, so that the log is read from its beginning.
func (f *Follower) rebuild(ctx context.Context, why string) error {
	f.setPlace(Place{})
	if err := f.opts.Store.Reset(ctx, f.opts.Log.Node()); err != nil {
		return fmt.Errorf("drop what was derived (%s): %w", why, err)
	}
	f.metrics.rebuilds.Inc()
	f.opts.Logger.Error("ledger was dropped and is rebuilt from the log", "node", f.opts.Log.Node(), "why", why)
	return nil
}

// gotTo notes how far the ledger is, and that the follower gets on.
func (f *Follower) gotTo(p Place) {
	f.mu.Lock()
	err := f.err
	f.err = nil
	f.mu.Unlock()
	if err != nil {
		f.opts.Logger.Info("ledger follows the log again", "node", f.opts.Log.Node(), "was", err)
	}
	// Last: whoever waits for the place finds the rest done.
	f.setPlace(p)
}

func (f *Follower) setPlace(p Place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place = p
	close(f.moved)
	f.moved = make(chan struct{})
}

// fails notes that the follower does not get on. It is logged when it begins, not
// with every try; that a ledger is not open, who opens it says.
func (f *Follower) fails(err error) {
	f.metrics.failures.Inc()
	f.mu.Lock()
	before := f.err
	f.err = err
	f.mu.Unlock()
	if (before == nil || errors.Is(before, ErrNotOpen)) && !errors.Is(err, ErrNotOpen) {
		f.opts.Logger.Error("ledger cannot follow the log; claims are not affected, it keeps trying", "node", f.opts.Log.Node(), "err", err)
	}
}

// Err says why the ledger does not follow at present; nil where it does.
func (f *Follower) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Position is how far the ledger has the log.
func (f *Follower) Position() fallbacklog.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.place.Position
}

// AsOf is the time before which every claim accepted is in the ledger; zero where
// nothing is known yet. Behind the log's end it is the stamp of the last record
// taken in, and so exact to the time that a commit takes.
func (f *Follower) AsOf() time.Time {
	f.mu.Lock()
	p := f.place
	f.mu.Unlock()
	if now := f.opts.Now(); p.Position != 0 && p.Position >= f.opts.Log.End() {
		return now
	}
	return p.AsOf
}

// Wait blocks until everything before p has been taken in, or ctx ends.
func (f *Follower) Wait(ctx context.Context, p fallbacklog.Position) error {
	for {
		f.mu.Lock()
		got, moved := f.place.Position, f.moved
		f.mu.Unlock()
		if got >= p {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitFor waits until the log has something after p, and not longer than idle.
func waitFor(ctx context.Context, log *fallbacklog.Log, p fallbacklog.Position) error {
	bounded, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	err := log.Wait(bounded, p)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return err
}

// sleep pauses; false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
