package consumer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"manna/consumer/quota"
	"manna/gift"
)

// Pacer says when a lane may start its next call. It holds the partner's rate as
// a promise counted at the partner's door:
//
//   - No second, wherever it begins, holds more starts than ⌊rate⌋, or than one
//     for a rate below 1/s. This is exact on the monotonic clock. A rate of 2.5/s
//     therefore gives 2/s: a third start would be more than the rate.
//   - Starts are evenly paced. What was missed is let go but for a hundredth of a
//     second's worth (one start at least), which also makes up for late timers.
//   - A new Pacer has nothing saved up: its first start comes one interval after
//     it was made, so that a restart, or many of them, is no burst. At 50/h this
//     is 72 s.
//
// It is safe for concurrent use; who calls Wait first starts first.
type Pacer struct {
	mu   sync.Mutex // guards all but turn and timer
	rate gift.Rate
	used uint64
	// lim paces; it lets up to ⌊rate⌋ + burst into a second, which starts makes
	// exact.
	lim    *rate.Limiter
	starts ring
	began  time.Time
	// token is what whoever has the turn took from lim, and may use when it is
	// due; nil before it asked.
	token   *rate.Reservation
	changed chan struct{} // closed by SetRate

	turn  chan struct{} // held by the one caller who waits for a start; the others wait for it
	timer *time.Timer   // of whoever has the turn
}

const (
	// maxRate bounds the memory of starts, as gift.ParseRate does.
	maxRate = 1_000_000
	// headroom keeps the pace a little below what starts would allow. Without
	// it every late timer would push all that follows back for good, second
	// after second, and starts that a late timer threw together would stay
	// together; with it they spread out again. It also leaves the way to the
	// partner some room for jitter. It costs 0.2 % of the rate.
	headroom = 0.002
)

// NewPacer makes a Pacer. The rate is one that gift.ParseRate gives: above 0 and
// at most 1000000/s.
func NewPacer(r gift.Rate) *Pacer {
	p := &Pacer{rate: r, began: time.Now(), changed: make(chan struct{}), turn: make(chan struct{}, 1)}
	p.starts.allow(perSecond(r))
	p.lim = rate.NewLimiter(pace(r), burst(r))
	p.lim.AllowN(p.began, burst(r))
	return p
}

// perSecond is how many starts a second may hold.
func perSecond(r gift.Rate) int {
	if !(r > 0 && r <= maxRate) {
		panic(fmt.Sprintf("consumer: %v is no rate for a pacer", float64(r)))
	}
	return quota.PerSecond(r)
}

// pace is the mean rate of starts under backlog.
func pace(r gift.Rate) rate.Limit {
	return rate.Limit(min(float64(r), float64(perSecond(r))*(1-headroom)))
}

func burst(r gift.Rate) int { return max(1, perSecond(r)/100) }

// Wait returns nil when one call may start now, and counts it as started; a call
// not made after all is let go. The error is ctx's, and nothing is counted then.
func (p *Pacer) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.turn }()
	for {
		wait, changed := p.start()
		if wait <= 0 {
			return nil
		}
		if p.timer == nil {
			p.timer = time.NewTimer(wait)
		} else {
			p.timer.Reset(wait)
		}
		select {
		case <-p.timer.C:
		case <-changed:
		case <-ctx.Done():
			p.timer.Stop()
			p.giveBack()
			return ctx.Err()
		}
	}
}

// start counts a start if one may be made now. Otherwise it tells for how long
// none may be, unless changed is closed before.
func (p *Pacer) start() (wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.token == nil {
		p.token = p.lim.ReserveN(now, 1)
	}
	at := now.Sub(p.began)
	wait = max(p.token.DelayFrom(now), p.starts.free()-at)
	if wait > 0 {
		return wait, p.changed
	}
	p.starts.add(at)
	p.token = nil
	p.used++
	return 0, nil
}

// giveBack returns the token of a caller who gave up before it was due.
func (p *Pacer) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel(time.Now())
}

func (p *Pacer) cancel(now time.Time) {
	if p.token != nil {
		p.token.CancelAt(now)
		p.token = nil
	}
}

// SetRate puts another rate in force at once, also for those who wait. A second
// whose last start comes after the change holds no more than the new rate allows,
// every other no more than the old: lowering the rate pauses the lane until
// enough of the starts already made are a second old.
func (p *Pacer) SetRate(r gift.Rate) {
	n := perSecond(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if r == p.rate {
		return
	}
	now := time.Now()
	p.cancel(now)
	p.lim.SetLimitAt(now, pace(r))
	p.lim.SetBurstAt(now, burst(r))
	p.starts.allow(n)
	p.rate = r
	close(p.changed)
	p.changed = make(chan struct{})
}

// Rate is the rate in force.
func (p *Pacer) Rate() gift.Rate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// Used is how many starts there were.
func (p *Pacer) Used() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// ring holds the last starts, each as the time since the pacer began.
type ring struct {
	// at is as long as the largest number of starts that a second was ever
	// allowed, for the rate may be lowered and raised again within a second.
	at   []time.Duration
	next int // where the next goes: on the oldest
	most int // starts that a second may hold now
}

// never is the time of a start that was not made.
const never = -time.Second

// free is when the next start may be made: a second after the one that would
// leave room for it.
func (r *ring) free() time.Duration {
	i := r.next - r.most
	if i < 0 {
		i += len(r.at)
	}
	return r.at[i] + time.Second
}

func (r *ring) add(at time.Duration) {
	r.at[r.next] = at
	r.next++
	if r.next == len(r.at) {
		r.next = 0
	}
}

// allow has a second hold most starts from now on. Where the ring has to grow it
// lacks older starts, and needs none: no second held more than it has room for,
// so they were a second older than the latest.
func (r *ring) allow(most int) {
	r.most = most
	if most <= len(r.at) {
		return
	}
	old := *r
	r.at, r.next = make([]time.Duration, most), 0
	for i := range r.at {
		r.at[i] = never
	}
	for i := range old.at {
		r.add(old.at[(old.next+i)%len(old.at)])
	}
}
