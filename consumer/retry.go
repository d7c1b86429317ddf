package consumer

import (
	"math/rand/v2"
	"time"
)

// pause is how long to wait after the n-th call (n ≥ 1). The partner's own wish
// comes first and is only ever lengthened; a step of the schedule varies by a
// fifth either way, so that orders that failed together do not come back
// together.
func pause(schedule []time.Duration, n int, wish time.Duration) time.Duration {
	if wish > 0 {
		return wish + time.Duration(rand.Float64()*0.2*float64(wish))
	}
	if len(schedule) == 0 {
		return 0
	}
	step := schedule[min(n, len(schedule))-1]
	return time.Duration((0.8 + 0.4*rand.Float64()) * float64(step))
}
