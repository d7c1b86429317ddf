package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"manna/fallbacklog"
)

// Source is another node's log, as it stands when it is asked for.
type Source struct {
	Node string
	// AsOf is the moment through which the log is there, by the node's clock:
	// whatever an Append had answered by then.
	AsOf time.Time
	// Heard is when the node last said how far its log is, by its clock; zero where
	// that is not known.
	Heard time.Time
	// First is the time of the first record; zero where there is none.
	First time.Time
	// Ended: no process of the node was running, and all that it has ever written is
	// there, whatever AsOf says.
	Ended bool
	// Retired: nothing more is to come of the node, so it is as one that has ended,
	// and what it had not fed by then nobody feeds.
	Retired bool
	// Log is to be closed. Nil: it cannot be read, and Err says why.
	Log Log
	Err error
	// Remedy is what a person may do about a log that does not arrive.
	Remedy string
}

// Log is what can be read of a log. It does not change until it is closed.
// Methods are safe for concurrent use.
type Log interface {
	// Indexes are those of all segments, oldest first.
	Indexes(ctx context.Context) ([]*fallbacklog.Index, error)
	// Losses are what the log lacks because of damage.
	Losses(ctx context.Context) ([]fallbacklog.Loss, error)
	// Read gives the record at the position of an index's row.
	Read(ctx context.Context, at fallbacklog.Position) (*fallbacklog.Record, error)
	Close() error
}

// Others gives a Source for each node but this one that is to have a log, or has
// one. A node is among them before its lanes take a first order. An error means
// that nobody knows which nodes there are.
type Others func(ctx context.Context) ([]Source, error)

// openLag is how far the logs may be behind now without being missed by a run
// that has no end: their nodes seal segments that old.
const openLag = 15 * time.Minute

// cluster is all logs that a run compares. This node's own has the number 0.
type cluster struct {
	own     *fallbacklog.Log
	others  []Source // those that can be read, numbered from 1 on
	indexes [][]*fallbacklog.Index
	absent  []Source // those that cannot
	losses  []loss
	opened  []Log
}

// loss is what a node's log lacks.
type loss struct {
	node string
	fallbacklog.Loss
}

// gather asks for the other nodes' logs. This node's own comes later, with seal.
func (r *Reconciler) gather(ctx context.Context) (*cluster, error) {
	c := &cluster{own: r.opts.Log, indexes: make([][]*fallbacklog.Index, 1)}
	if r.opts.Others == nil {
		return c, nil
	}
	list, err := r.opts.Others(ctx)
	if err != nil {
		return nil, fmt.Errorf("the other nodes' logs: %w", err)
	}
	for _, s := range list {
		if s.Log != nil {
			c.opened = append(c.opened, s.Log)
		}
	}
	if len(list) >= math.MaxUint16 {
		return nil, errors.Join(fmt.Errorf("%d nodes are more than a run can compare: retire those that are gone, and move their folders out of the archive", len(list)), c.close())
	}
	slices.SortFunc(list, func(a, b Source) int { return cmp.Compare(a.Node, b.Node) })
	for _, s := range list {
		if s.Log != nil {
			if err := c.add(ctx, s); err != nil {
				s.Err = fmt.Errorf("its log cannot be read: %w", err)
			}
		}
		if s.Err != nil {
			c.absent = append(c.absent, s)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// add takes in a log that can be read.
func (c *cluster) add(ctx context.Context, s Source) error {
	indexes, err := s.Log.Indexes(ctx)
	if err != nil {
		return err
	}
	losses, err := s.Log.Losses(ctx)
	if err != nil {
		return err
	}
	c.others, c.indexes = append(c.others, s), append(c.indexes, indexes)
	c.lack(s.Node, losses)
	return nil
}

// seal takes in everything that has been appended to this node's own log by now.
func (c *cluster) seal(ctx context.Context) (err error) {
	if c.indexes[0], err = c.own.Seal(ctx); err != nil {
		return fmt.Errorf("seal the log: %w", err)
	}
	losses, err := c.own.Losses()
	if err != nil {
		return fmt.Errorf("what the log has lost: %w", err)
	}
	c.lack(c.own.Node(), losses)
	return nil
}

func (c *cluster) lack(node string, losses []fallbacklog.Loss) {
	for _, l := range losses {
		c.losses = append(c.losses, loss{node, l})
	}
}

func (c *cluster) close() error {
	var errs []error
	for _, log := range c.opened {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}

// read reads a record of any of the logs.
func (c *cluster) read(ctx context.Context, at place) (*fallbacklog.Record, error) {
	if at.log == 0 {
		return c.own.Read(at.at)
	}
	s := &c.others[at.log-1]
	rec, err := s.Log.Read(ctx, at.at)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", s.Node, err)
	}
	return rec, nil
}

// alone reports whether there is no other node.
func (c *cluster) alone() bool { return len(c.others)+len(c.absent) == 0 }

// through is the moment through which the other nodes' logs are there; whole where
// nothing is missing of them at all. A log that cannot be read is not there from
// the beginning of time on.
func (c *cluster) through() (t time.Time, whole bool) {
	if len(c.absent) > 0 {
		return t, false
	}
	whole = true
	for i := range c.others {
		if s := &c.others[i]; !s.ended() && (whole || s.AsOf.Before(t)) {
			t, whole = s.AsOf, false
		}
	}
	return t, whole
}

// until is the end of a run that has none, or one that has not come yet: now, or
// how far all logs are, where that is not long ago.
func (c *cluster) until(now time.Time) time.Time {
	t, whole := c.through()
	if whole || t.After(now) {
		t = now
	}
	if longest := now.Add(-openLag); t.Before(longest) {
		t = longest
	}
	return t
}

const (
	// lateAfter is how far a log that arrives in order may be behind unmentioned.
	lateAfter = time.Minute
	// unheardAfter is how long nothing may have come of a node that is up: it tells each
	// minute how far its log is there.
	unheardAfter = 3 * time.Minute
)

// late names the logs for whose sake a run ends before now, and apart from them those of
// nodes that are silent: a run that was to have no end lacks what they may have. Those
// that have not even arrived up to its end are missing.
func (c *cluster) late(to, now time.Time) (late, silent []string) {
	for i := range c.others {
		s := &c.others[i]
		if s.ended() || s.AsOf.Before(to) || !s.AsOf.Before(now.Add(-lateAfter)) {
			continue
		}
		what := fmt.Sprintf("its log has arrived up to %s; what any node accepted after that is not in this report", clock(s.AsOf, now))
		if s.Heard.IsZero() || !s.Heard.Before(now.Add(-unheardAfter)) {
			late = append(late, s.name(what))
			continue
		}
		silent = append(silent, s.name(fmt.Sprintf("silent since %s, or its clock is behind: %s", clock(s.Heard, now), what)))
	}
	return late, silent
}

// missing names the logs that are not there, or not up to a moment.
func (c *cluster) missing(to time.Time) []string {
	var list []string
	for i := range c.absent {
		s := &c.absent[i]
		list = append(list, s.name(s.Err.Error()))
	}
	for i := range c.others {
		s := &c.others[i]
		if s.ended() || !s.AsOf.Before(to) {
			continue
		}
		what := fmt.Sprintf("its log has arrived up to %s, not to %s", clock(s.AsOf, to), clock(to, s.AsOf))
		if !s.Heard.IsZero() {
			what += ", and it was last heard of at " + clock(s.Heard, to)
		}
		list = append(list, s.name(what))
	}
	return list
}

// name says what is wrong with a node's log, and what helps.
func (s *Source) name(what string) string {
	if s.Remedy != "" {
		what += ": " + s.Remedy
	}
	return "node " + s.Node + ": " + what
}

// first is the time of the oldest record of the other nodes' logs; zero where they
// have none.
func (c *cluster) first() (t time.Time) {
	for i := range c.others {
		if f := c.others[i].First; !f.IsZero() && (t.IsZero() || f.Before(t)) {
			t = f
		}
	}
	return t
}

func (s *Source) ended() bool { return s.Ended || s.Retired }

// clock writes a moment, without its day where that is the other's too.
func clock(t, other time.Time) string {
	t, other = t.UTC(), other.UTC()
	switch {
	case t.IsZero():
		return "no moment"
	case t.Format(time.DateOnly) == other.Format(time.DateOnly):
		return t.Format("15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05Z")
}
