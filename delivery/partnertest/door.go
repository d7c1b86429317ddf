package partnertest

import (
	"math"
	"slices"
	"sort"
	"time"
)

// MaxArrivals bounds the arrivals that are recorded.
const MaxArrivals = 50_000_000

const (
	arrivalBlock = 1 << 14
	maxStalls    = 100_000
	// A stall explains arrivals for as long again as it took, within these
	// bounds: so long what had queued may still be coming in.
	minReach = 20 * time.Millisecond
	maxReach = time.Second
	// overTheRate is how much above its rate a partner bears: the transport's
	// jitter between the caller's pacing and this door.
	overTheRate = 1.02
)

// Stall is a time in which the partner was not running, as time since it began.
type Stall struct {
	From Duration `json:"from"`
	To   Duration `json:"to"`
}

// arrivals are moments in nanoseconds since the partner began, in order, in
// blocks that are never moved, so that a copy of the headers is a snapshot.
type arrivals struct {
	blocks [][]int64
	n      int
}

func (a *arrivals) add(at int64) bool {
	if a.n >= MaxArrivals {
		return false
	}
	if a.n%arrivalBlock == 0 {
		a.blocks = append(a.blocks, make([]int64, 0, arrivalBlock))
	}
	last := len(a.blocks) - 1
	a.blocks[last] = append(a.blocks[last], at)
	a.n++
	return true
}

func (a *arrivals) at(i int) int64 { return a.blocks[i/arrivalBlock][i%arrivalBlock] }

func (a *arrivals) snapshot() arrivals {
	return arrivals{blocks: slices.Clone(a.blocks), n: a.n}
}

// peak slides a half-open second over the arrivals: the most that any holds, and
// how many disjoint ones were overrun.
func (a *arrivals) peak(rate float64, stalls []Stall) (most, overrun int) {
	end, free := 0, int64(math.MinInt64)
	for i := range a.n {
		from := a.at(i)
		to := from + int64(time.Second)
		for end < a.n && a.at(end) < to {
			end++
		}
		count := end - i
		most = max(most, count)
		if rate <= 0 || from < free || count <= bearable(rate, 0) {
			continue
		}
		if count > bearable(rate, stalled(stalls, from, to)) {
			overrun++
			free = to
		}
	}
	return most, overrun
}

// bearable is how many arrivals a second may hold that overlaps stalls of total
// length s.
func bearable(rate float64, s time.Duration) int {
	// 1e-9 keeps 500 × 1.02 from becoming 511.
	return int(math.Ceil(max(rate*(1+s.Seconds())*overTheRate, rate+1) - 1e-9))
}

// stalled is the total length of the stalls that reach into [from, to).
func stalled(stalls []Stall, from, to int64) time.Duration {
	first := sort.Search(len(stalls), func(i int) bool { return int64(stalls[i].To)+int64(maxReach) > from })
	total := time.Duration(0)
	for _, s := range stalls[first:] {
		if int64(s.From) >= to {
			break
		}
		length := time.Duration(s.To - s.From)
		if int64(s.To)+int64(min(max(length, minReach), maxReach)) > from {
			total += length
		}
	}
	return total
}

// rateKeeper says whether an arrival is above the rate. It remembers no more
// than the last second's worth.
type rateKeeper struct {
	rate float64
	last []int64 // a ring of the bearable arrivals
	next int
	full bool
}

func newRateKeeper(rate float64) *rateKeeper {
	k := &rateKeeper{rate: rate}
	if rate > 0 {
		k.last = make([]int64, bearable(rate, 0))
	}
	return k
}

func (k *rateKeeper) over(at int64) bool {
	if len(k.last) == 0 {
		return false
	}
	over := k.full && at-k.last[k.next] < int64(time.Second)
	k.last[k.next] = at
	if k.next++; k.next == len(k.last) {
		k.next, k.full = 0, true
	}
	return over
}
