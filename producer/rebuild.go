package producer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"manna/fallbacklog"
)

// rebuild takes in the claims and the returns that the log has: into guard and into
// the stock. It reads indexes, several at once, until ctx ends.
func (s *stock) rebuild(ctx context.Context, log *fallbacklog.Log, guard *memoryGuard, logger *slog.Logger) error {
	began := time.Now()
	// Right after Open nothing is left to seal and this costs nothing.
	indexes, err := log.Seal(ctx)
	if err != nil {
		return err
	}
	work := make(chan *fallbacklog.Index)
	var workers sync.WaitGroup
	var mu sync.Mutex // guards the next two
	var failed error
	done := 0
	for range min(runtime.GOMAXPROCS(0), len(indexes)) {
		workers.Go(func() {
			for x := range work {
				err := s.restore(ctx, log, x, guard)
				mu.Lock()
				done++
				if failed == nil {
					failed = err
				}
				if len(indexes) > 16 && done%(len(indexes)/8) == 0 {
					logger.Info("reading the claims of the log", "segments", done, "of", len(indexes))
				}
				mu.Unlock()
			}
		})
	}
	for _, x := range indexes {
		select {
		case work <- x:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	if failed != nil {
		return fmt.Errorf("rebuild the guard from the log: %w", failed)
	}
	if len(indexes) > 0 {
		logger.Info("read the claims of the log", "claims", guard.len(), "segments", len(indexes), "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// lookEvery is how many rows are taken in between two looks at the context.
const lookEvery = 1 << 12

// restore takes in one index.
func (s *stock) restore(ctx context.Context, log *fallbacklog.Log, x *fallbacklog.Index, guard *memoryGuard) error {
	counts := make(map[stockKey]int64)
	rows := 0
	for row, err := range x.All() {
		if rows++; rows%lookEvery == 1 && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		var n int64
		switch {
		case row.Kind == fallbacklog.Claimed && row.OfClaim && guard.restore(row.ID, row.At):
			n = 1
		case row.Kind == fallbacklog.Returned:
			n = -row.Value
		default:
			continue
		}
		key := stockKey{x.Names().Name(row.Campaign), x.Names().Name(row.Gift)}
		if row.Campaign == 0 || row.Gift == 0 {
			if key, err = stockOf(log, row.At); err != nil {
				return err
			}
		}
		counts[key] += n
	}
	for key, n := range counts {
		s.of(key.campaign, key.gift).Add(n)
	}
	return nil
}

// stockOf reads from a record what its row has no number for.
func stockOf(log *fallbacklog.Log, at fallbacklog.Position) (stockKey, error) {
	rec, err := log.Read(at)
	switch {
	case err != nil:
		return stockKey{}, err
	case rec.Claim != nil:
		return stockKey{rec.Claim.Campaign, rec.Claim.Gift}, nil
	case rec.Stock != nil:
		return stockKey{rec.Stock.Campaign, rec.Stock.Gift}, nil
	}
	return stockKey{}, fmt.Errorf("record %v is neither a claim nor stock", at)
}
