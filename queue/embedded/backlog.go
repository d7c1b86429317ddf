package embedded

import (
	"math"

	"manna/fallbacklog"
	"manna/gift"
)

const (
	// prefetch is how many first deliveries of a lane are kept decoded.
	prefetch = 256
	// scanRecords bounds one reading of the log on behalf of a lane, so that what
	// comes due meanwhile does not wait for long.
	scanRecords = 1024
	// blockOrders is how many orders a block begins with holding, maxBlocks how
	// many blocks a lane has before they are merged in pairs.
	blockOrders = 1024
	maxBlocks   = 4096
	// blockGap is the distance in the log, in bytes, from which on it is better to
	// jump than to read on.
	blockGap = 256 << 10
)

// first is a first delivery.
type first struct {
	claim   *gift.Claim
	index   int // of the order in the claim
	at      fallbacklog.Position
	claimed int64 // Unix milliseconds
}

// claimedAt is the claim's time as a watermark sees it: that of the claim or of
// its record, whichever is earlier, in the milliseconds of an index row.
func claimedAt(rec *fallbacklog.Record) int64 {
	return min(rec.Claim.ClaimedAt.UnixMilli(), rec.Time.UnixMilli())
}

// firsts appends the first deliveries of a claim that belong to a lane.
func firsts(to []first, rec *fallbacklog.Record, partner string) []first {
	at := claimedAt(rec)
	for i := range rec.Claim.Orders {
		if rec.Claim.Orders[i].Partner == partner {
			to = append(to, first{claim: rec.Claim, index: i, at: rec.At, claimed: at})
		}
	}
	return to
}

// block stands for a run of a lane's orders in the log that have been counted and
// not yet read.
type block struct {
	first, last fallbacklog.Position // of the claims of the first and last order
	orders      int64
	oldest      int64 // the earliest claim time, Unix milliseconds
}

func (b *block) add(at fallbacklog.Position, orders, claimed int64) {
	if b.orders == 0 {
		*b = block{first: at, last: at, orders: orders, oldest: claimed}
		return
	}
	b.first, b.last = min(b.first, at), max(b.last, at)
	b.orders += orders
	b.oldest = min(b.oldest, claimed)
}

// blocks are a lane's orders that have not been read, oldest first. Their number
// is bounded: the longer the backlog, the coarser they are.
type blocks struct {
	list []block
	size int64 // orders in a full block
}

// add counts orders of a claim that comes after all others.
func (b *blocks) add(at fallbacklog.Position, orders, claimed int64) {
	if n := len(b.list); n > 0 {
		last := &b.list[n-1]
		if last.orders < b.size && at.Segment() == last.last.Segment() && at-last.last <= blockGap {
			last.add(at, orders, claimed)
			return
		}
	}
	b.append(block{first: at, last: at, orders: orders, oldest: claimed})
}

func (b *blocks) append(more ...block) {
	for _, x := range more {
		if len(b.list) == 0 {
			b.size = blockOrders
		}
		if b.list = append(b.list, x); len(b.list) > maxBlocks {
			b.merge()
		}
	}
}

// merge halves the number of blocks.
func (b *blocks) merge() {
	half := b.list[:0]
	for i := 0; i < len(b.list); i += 2 {
		x := b.list[i]
		if i+1 < len(b.list) {
			y := b.list[i+1]
			x.last, x.orders, x.oldest = y.last, x.orders+y.orders, min(x.oldest, y.oldest)
		}
		half = append(half, x)
	}
	b.list = half
	b.size *= 2
}

// drop forgets the blocks that end before next.
func (b *blocks) drop(next fallbacklog.Position) {
	for len(b.list) > 0 && b.list[0].last < next {
		b.list = b.list[1:]
	}
}

// oldest is the earliest claim time in the blocks; none where there are none.
func (b *blocks) oldest() int64 {
	oldest := none
	for i := range b.list {
		oldest = min(oldest, b.list[i].oldest)
	}
	return oldest
}

// none is the watermark that covers nothing.
const none = int64(math.MaxInt64)
