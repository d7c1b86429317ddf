package consumer

import (
	"math/rand/v2"
	"time"
)

// pause is how long to wait after the n-th call (n ≥ 1): a step of the schedule,
// varied by a fifth either way so that orders that failed together do not come
// back together, or longer where the partner wishes it. A wish is only ever
// lengthened.
func pause(schedule []time.Duration, n int, wish time.Duration) time.Duration {
	wish += time.Duration(rand.Float64() * 0.2 * float64(wish))
	if len(schedule) == 0 {
		return wish
	}
	step := schedule[min(max(n, 1), len(schedule))-1]
	return max(wish, time.Duration((0.8+0.4*rand.Float64())*float64(step)))
}
