package reconcile

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"manna/fallbacklog"
	"manna/gift"
)

// comparison is the diff of one run: the merge of all logs' indexes, split over
// cores, each order judged.
type comparison struct {
	logs  [][]*fallbacklog.Index // this node's own first
	names *names
	judge judge
}

func newComparison(logs [][]*fallbacklog.Index, q Request, marks map[string]watermarks) *comparison {
	c := &comparison{logs: logs, names: newNames()}
	c.judge = judge{from: math.MinInt64, to: math.MaxInt64, marks: make([]watermarks, 1), look: c.look}
	if !q.From.IsZero() {
		c.judge.from = q.From.UnixMilli()
	}
	if !q.To.IsZero() {
		c.judge.to = q.To.UnixMilli()
	}
	for partner, w := range marks {
		n := int(c.names.add(partner))
		c.judge.marks = append(c.judge.marks, make([]watermarks, max(0, n+1-len(c.judge.marks)))...)
		c.judge.marks[n] = w
	}
	if q.Campaign != "" {
		c.judge.campaign = c.names.add(q.Campaign)
	}
	return c
}

func (c *comparison) look(ctx context.Context, id gift.OrderID, visit func(*evidence) error) error {
	return merge(ctx, c.logs, only(id), c.names, visit)
}

// tally is what a worker has counted.
type tally struct {
	lanes     []Counts // by the lane's number
	rows      int64
	openSince int64   // claim time of the oldest order that is not final; 0: none
	unfed     []int64 // by the log's number
	twice     int64   // claims that were given two gifts
}

func (t *tally) count(f *finding) {
	if n := int(f.lane) + 1 - len(t.lanes); n > 0 {
		t.lanes = append(t.lanes, make([]Counts, n)...)
	}
	*t.lanes[f.lane].of(f.class)++
	if f.unfed > 0 {
		if n := int(f.unfed) + 1 - len(t.unfed); n > 0 {
			t.unfed = append(t.unfed, make([]int64, n)...)
		}
		t.unfed[f.unfed]++
	}
	if f.class == InFlight || f.class == Missing || f.class == InDoubt {
		t.open(f.at)
	}
}

func (t *tally) open(since int64) {
	if since != 0 && (t.openSince == 0 || since < t.openSince) {
		t.openSince = since
	}
}

func (t *tally) add(o *tally) {
	if n := len(o.lanes) - len(t.lanes); n > 0 {
		t.lanes = append(t.lanes, make([]Counts, n)...)
	}
	for i, c := range o.lanes {
		t.lanes[i].add(c)
	}
	if n := len(o.unfed) - len(t.unfed); n > 0 {
		t.unfed = append(t.unfed, make([]int64, n)...)
	}
	for i, n := range o.unfed {
		t.unfed[i] += n
	}
	t.rows += o.rows
	t.twice += o.twice
	t.open(o.openSince)
}

const (
	// spansPerWorker keeps all cores busy until the end.
	spansPerWorker = 8
	// heldFindings is how many findings of a span wait for the spans before it.
	heldFindings = 1024
)

// run judges every order and hands the discrepancies to take, in the order of
// their ids and by one caller at a time. The slice is take's until it returns.
func (c *comparison) run(ctx context.Context, workers int, take func(context.Context, []finding) error) (*tally, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	list := spans(workers * spansPerWorker)
	// written[i] is closed when all findings of the spans before i are taken.
	// Spans are begun in order, so the first unfinished one is always under way
	// and never waits for another.
	written := make([]chan struct{}, len(list)+1)
	for i := range written {
		written[i] = make(chan struct{})
	}
	close(written[0])
	var begun atomic.Int64
	tallies := make([]tally, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			held := make([]finding, 0, heldFindings)
			for {
				i := int(begun.Add(1)) - 1
				if i >= len(list) {
					return
				}
				flush := func() error {
					select {
					case <-written[i]:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					err := take(ctx, held)
					held = held[:0]
					return err
				}
				err := merge(ctx, c.logs, list[i], c.names, func(e *evidence) error {
					tallies[w].rows += int64(len(e.rows))
					judged := c.judge.order
					if ofClaim(&e.rows[0]) {
						judged = c.judge.claim
					}
					f, ok, err := judged(ctx, e)
					if !ok || err != nil {
						return err
					}
					if f.twice != nil {
						tallies[w].twice++
					} else {
						tallies[w].count(&f)
					}
					if !f.class.Discrepancy() {
						return nil
					}
					if held = append(held, f); len(held) < heldFindings {
						return nil
					}
					return flush()
				})
				if err == nil {
					err = flush()
				}
				if err != nil {
					cancel(err)
					return
				}
				close(written[i+1])
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	total := &tally{}
	for i := range tallies {
		total.add(&tallies[i])
	}
	return total, nil
}

func sortShares(shares []Share) {
	slices.SortFunc(shares, func(a, b Share) int {
		if a.Partner < b.Partner {
			return -1
		}
		return 1
	})
}
