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

// reserve decides each request without waiting. Those that another request, or an
// earlier one of the same batch, is appending are returned to be claimed later.
func (b *batch) reserve(ctx context.Context, reqs []Request) (later []int) {
	f := b.front
	now := f.now()
	snapshot := f.snapshot.Load()
	for i := range reqs {
		result := &b.results[i]
		if result.Err = checkTarget(reqs[i].Target); result.Err != nil {
			continue
		}
		e, err := snapshot.entitle(&reqs[i], now)
		if err != nil {
			result.Answer, result.Err = f.late(ctx, &e, err, &b.patient)
			continue
		}
		r, err := f.reserve(ctx, &e, &b.patient)
		switch {
		case err != nil:
			result.Err = err
		case r.Busy != nil:
			later = append(later, i)
		case !r.Held:
			result.Answer, result.Err = f.repeat(ctx, &e, r.Recorded, &b.patient)
			if errors.Is(result.Err, errForgotten) {
				later = append(later, i)
			}
		default:
			p, err := f.prepare(ctx, &e, now, &b.patient)
			if err != nil {
				f.guard.Release(e.id)
				result.Err = err
				continue
			}
			b.pending = append(b.pending, p)
			b.index = append(b.index, i)
		}
	}
	return later
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

// committers is how many claims of a batch are told to a shared guard at a time, each of
// them an exchange over the network.
const committers = 16

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
	for some := range slices.Chunk(b.pending, max(1, (len(b.pending)+committers-1)/committers)) {
		telling.Go(func() { tell(some) })
	}
	telling.Wait()
}
