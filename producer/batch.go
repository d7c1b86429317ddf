package producer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"manna/fallbacklog"
)

// Result is the answer to one claim of a batch, or its error, a *gift.Error.
type Result struct {
	Answer Answer
	Err    error
}

// ClaimBatch accepts claims with one commit for all that are new. There is one
// result for each request, in their order. A batch never waits for another
// request while it holds reservations, so two of them cannot block each other.
func (f *Front) ClaimBatch(ctx context.Context, reqs []Request) []Result {
	results, err := f.claimBatch(ctx, reqs)
	if err != nil {
		results = make([]Result, len(reqs))
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// claimBatch is ClaimBatch; its error is one that refuses the whole batch.
func (f *Front) claimBatch(ctx context.Context, reqs []Request) ([]Result, error) {
	if len(reqs) > f.limits.Batch {
		return nil, fieldError("claims", "a batch has at most %d claims, this one has %d", f.limits.Batch, len(reqs))
	}
	if err := f.enter(len(reqs)); err != nil {
		f.metrics.refused(err)
		return nil, err
	}
	defer f.leave(len(reqs))
	began := time.Now()
	b := batch{front: f, results: make([]Result, len(reqs))}
	later := b.reserve(ctx, reqs)
	b.append(ctx)
	for _, i := range later {
		b.results[i].Answer, b.results[i].Err = f.accept(ctx, &reqs[i], &b.patient)
	}
	for i := range b.results {
		f.metrics.claimed(&b.results[i].Answer, b.results[i].Err, began)
	}
	return b.results, nil
}

// batch is the new claims of one ClaimBatch.
type batch struct {
	front   *Front
	results []Result
	patient patience
	pending []*pending
	index   []int // of each pending one in results
}

// parallel is how many claims of a batch a shared guard is asked about, or told of, at a
// time: each is an exchange over the network.
const parallel = 16

// reserve decides each request without waiting. Those that another request, or an
// earlier one of the same batch, is appending are returned to be claimed later.
func (b *batch) reserve(ctx context.Context, reqs []Request) (later []int) {
	f := b.front
	now, snapshot := f.now(), f.snapshot.Load()
	verdicts := make([]verdict, len(reqs))
	decide := func(i int) { verdicts[i] = b.decide(ctx, snapshot, &reqs[i], now, &b.results[i]) }
	if f.shared == nil {
		for i := range reqs {
			decide(i)
		}
	} else {
		var deciding sync.WaitGroup
		for _, some := range byUser(reqs, parallel) {
			deciding.Go(func() {
				for _, i := range some {
					decide(i)
				}
			})
		}
		deciding.Wait()
	}
	for i, v := range verdicts {
		switch {
		case v.later:
			later = append(later, i)
		case v.pending != nil:
			b.pending = append(b.pending, v.pending)
			b.index = append(b.index, i)
		}
	}
	return later
}

// byUser spreads the indexes of requests over at most n groups, those of a user in one
// and in their order: they may be repeats, or share a limit.
func byUser(reqs []Request, n int) [][]int {
	groups := make([][]int, n)
	of := make(map[string]int)
	for i := range reqs {
		g, ok := of[reqs[i].User]
		if !ok {
			g = len(of) % n
			of[reqs[i].User] = g
		}
		groups[g] = append(groups[g], i)
	}
	return groups[:min(n, max(1, len(of)))]
}

// verdict is what comes of a request; where it is neither, its result is known.
type verdict struct {
	pending *pending // it is to be appended
	later   bool     // it is being appended
}

// decide has the guard reserve one request's claim, and takes its stock.
func (b *batch) decide(ctx context.Context, s *Snapshot, req *Request, now time.Time, result *Result) (v verdict) {
	f := b.front
	if result.Err = checkTarget(req.Target); result.Err != nil {
		return v
	}
	e, err := s.entitle(req, now)
	if err != nil {
		result.Answer, result.Err = f.late(ctx, &e, err, &b.patient)
		return v
	}
	r, err := f.reserve(ctx, &e, &b.patient)
	switch {
	case err != nil:
		result.Err = err
	case r.Busy != nil:
		v.later = true
	case !r.Held:
		result.Answer, result.Err = f.repeat(ctx, &e, r.Recorded, &b.patient)
		v.later = errors.Is(result.Err, errForgotten)
	default:
		if v.pending, result.Err = f.prepare(ctx, &e, now, &b.patient); result.Err != nil {
			f.guard.Release(e.id)
		}
	}
	return v
}

// append appends what was reserved.
func (b *batch) append(ctx context.Context) {
	f := b.front
	recorded := 0
	defer func() {
		for _, p := range b.pending[recorded:] {
			f.guard.Release(p.record.Claim.ID)
		}
	}()
	records := make([]*fallbacklog.Record, len(b.pending))
	for i, p := range b.pending {
		records[i] = &p.record
	}
	if err := f.log.Append(ctx, records...); err != nil {
		told := f.ours(fmt.Sprintf("append %d claims", len(records)), err)
		for i, p := range b.pending {
			p.undo(err)
			b.results[b.index[i]].Err = told
		}
		return
	}
	// Commit point: all new claims of the batch are accepted.
	b.commit()
	recorded = len(b.pending)
	for i, p := range b.pending {
		b.results[b.index[i]].Answer = f.accepted(p.record.Claim)
	}
	if recorded > 0 {
		f.newest.raise(b.pending[recorded-1].record.At)
		f.replication.hold(ctx, b.pending[recorded-1].record.At)
	}
}

// commit tells the guard that all new claims are recorded.
func (b *batch) commit() {
	f := b.front
	tell := func(some []*pending) {
		for _, p := range some {
			f.guard.Commit(p.record.Claim.ID, p.record.At)
		}
	}
	if f.shared == nil {
		tell(b.pending)
		return
	}
	var telling sync.WaitGroup
	for some := range slices.Chunk(b.pending, max(1, (len(b.pending)+parallel-1)/parallel)) {
		telling.Go(func() { tell(some) })
	}
	telling.Wait()
}
