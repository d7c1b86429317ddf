package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"manna/consumer/quota"
	"manna/gift"
)

// Quota shares each partner's rate with the lanes of other nodes.
type Quota struct {
	Centre quota.Centre
	// Standby is the share of the rate that all nodes together use while the centre
	// is away, 0.7 for example, and Instances how many nodes serve lanes then, which
	// may change. With either 0 a lane pauses until the centre is back.
	Standby   float64
	Instances func() int
}

// QuotaStatus is how a lane stands with the centre of the quota.
type QuotaStatus struct {
	// Mode is "central", "standby" or "paused"; "starting" before the centre was
	// reached for the first time.
	Mode    string    `json:"mode"`
	Since   time.Time `json:"since"`
	Problem string    `json:"problem,omitempty"` // why the centre was not reached last
	Leased  uint64    `json:"leased"`            // slots
	Used    uint64    `json:"used"`
	Missed  uint64    `json:"missed"` // slots that passed without an order to call for
}

const (
	modeStarting = "starting"
	modeCentral  = "central"
	modeStandby  = "standby"
	modePaused   = "paused"
)

const (
	// shareLead is how far ahead of its moment a lane wants to hold the slots that
	// it is going to use: several exchanges with the centre, and a busy machine's
	// pauses.
	shareLead = 100 * time.Millisecond
	// shareRetry is how often a centre that is away is asked.
	shareRetry = 100 * time.Millisecond
	// shareCall bounds one exchange with the centre.
	shareCall = 250 * time.Millisecond
	// shareTries bounds how often in a row other nodes may be faster.
	shareTries = 5
	// shareRecent is the grain of what a lane used recently.
	shareRecent = shareLead / 2
)

// share is a lane's part of a rate that many nodes share; package quota says what
// it promises and why it holds. It stands where the Pacer stands in a process that
// has the rate for itself: it is safe for concurrent use, and who calls Wait first
// starts first.
type share struct {
	partner string
	quota   *Quota
	now     func() time.Time // the node's clock
	logger  *slog.Logger

	turn  chan struct{} // held by the one caller who waits for a start
	timer *time.Timer   // of whoever has the turn
	kick  chan struct{} // run should see whether slots are wanted

	mu      sync.Mutex // guards what follows
	rate    gift.Rate
	slots   []quota.Slots // held, in order
	waiting int           // callers in Wait
	recent  [3]int        // starts, by time in grains of shareRecent
	grain   int64         // that recent[0] counts
	starts  ring          // whatever the clocks do, this node keeps the rate
	began   time.Time
	changed chan struct{} // closed when slots come or go
	status  QuotaStatus

	// What follows is run's own.
	away    bool      // the last exchange failed, or there was none
	reached time.Time // the last that did not
	local   quota.Register
	still   quota.Register // a register whose clock is wrong, and since when it stands
	stands  time.Time
}

func newShare(partner string, q *Quota, r gift.Rate, now func() time.Time, logger *slog.Logger) *share {
	s := &share{
		partner: partner, quota: q, rate: r, now: now, logger: logger, began: time.Now(), reached: time.Now(), away: true,
		turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), changed: make(chan struct{}),
		status: QuotaStatus{Mode: modeStarting, Since: now().UTC()},
	}
	s.starts.allow(perSecond(r))
	return s
}

// Wait returns nil when one call may start now, and counts it as started. The error
// is ctx's, and nothing is counted then.
func (s *share) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.enter(1)
	defer s.enter(-1)
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	for {
		wait, changed := s.start()
		if wait <= 0 {
			return nil
		}
		if s.timer == nil {
			s.timer = time.NewTimer(wait)
		} else {
			s.timer.Reset(wait)
		}
		select {
		case <-s.timer.C:
		case <-changed:
		case <-ctx.Done():
			s.timer.Stop()
			return ctx.Err()
		}
	}
}

func (s *share) enter(n int) {
	s.mu.Lock()
	s.waiting += n
	wanted := s.want(shareLead) > 0
	s.mu.Unlock()
	if wanted {
		s.wake()
	}
}

// wake has run look whether slots are wanted.
func (s *share) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// start counts a start if a slot's moment is now. Otherwise it tells for how long
// there is none, unless changed is closed before.
func (s *share) start() (wait time.Duration, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, at := s.now().UnixNano(), time.Since(s.began)
	s.miss(now)
	if len(s.slots) == 0 {
		s.wake()
		return quota.Ask, s.changed
	}
	next := &s.slots[0]
	if wait = max(time.Duration(next.First-now), s.starts.free()-at); wait > 0 {
		return wait, s.changed
	}
	s.starts.add(at)
	s.status.Used++
	s.roll(at)
	s.recent[0]++
	s.shift()
	if s.want(shareLead) > 0 {
		s.wake()
	}
	return 0, nil
}

// miss lets slots go whose moment has passed.
func (s *share) miss(now int64) {
	for len(s.slots) > 0 && now-s.slots[0].First > int64(quota.Late) {
		s.status.Missed++
		s.shift()
	}
}

// shift takes the first slot away.
func (s *share) shift() {
	next := &s.slots[0]
	next.First += int64(next.Spacing)
	if next.N--; next.N == 0 {
		s.slots = s.slots[1:]
	}
}

// roll brings recent up to date.
func (s *share) roll(at time.Duration) {
	for g := int64(at / shareRecent); s.grain < g; s.grain++ {
		s.recent = [3]int{0, s.recent[0], s.recent[1]}
		if s.recent == [3]int{} {
			s.grain = g - 1
		}
	}
}

// want is how many more slots should be held for the time ahead: enough for who
// waits now and for as many as came recently, but not more than there are in it.
// It is 0 until half of them are used.
func (s *share) want(ahead time.Duration) int {
	s.roll(time.Since(s.began))
	target := min(max(1, int(ahead/quota.Spacing(s.rate))), s.waiting+s.recent[0]+s.recent[1]+s.recent[2])
	held := 0
	for i := range s.slots {
		held += s.slots[i].N
	}
	if 2*held > target {
		return 0
	}
	return target - held
}

// add takes in slots that were leased.
func (s *share) add(slots quota.Slots) {
	if slots.N == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots = append(s.slots, slots)
	s.status.Leased += uint64(slots.N)
	s.tell()
}

// tell has who waits look again. It requires s.mu.
func (s *share) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// SetRate puts another rate in force. Slots of the old one are let go.
func (s *share) SetRate(r gift.Rate) {
	n := perSecond(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r == s.rate {
		return
	}
	s.rate = r
	s.starts.allow(n)
	s.drop()
}

// drop lets all slots go. It requires s.mu.
func (s *share) drop() {
	for i := range s.slots {
		s.status.Missed += uint64(s.slots[i].N)
	}
	s.slots = nil
	s.tell()
}

func (s *share) snapshot() *QuotaStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	return &status
}

// run leases slots as they are wanted, and watches the centre, until ctx ends.
func (s *share) run(ctx context.Context) {
	for {
		pause, kick := s.step(ctx)
		wake := s.kick
		if !kick {
			wake = nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// step leases what is wanted, or at least looks whether the centre is there. It
// tells when to come again, and whether a kick is a reason to come before.
func (s *share) step(ctx context.Context) (pause time.Duration, kick bool) {
	s.mu.Lock()
	r := s.rate
	s.miss(s.now().UnixNano())
	want := s.want(shareLead)
	s.mu.Unlock()
	if want == 0 && !s.away && time.Since(s.reached) < quota.Ask {
		return quota.Ask - time.Since(s.reached), true
	}
	ctx, cancel := context.WithTimeout(ctx, shareCall)
	defer cancel()
	for range shareTries {
		began := time.Now()
		slots, next, err := s.lease(ctx, quota.Spacing(r), want)
		switch {
		case errors.Is(err, quota.ErrChanged):
			continue
		case err != nil:
			s.lost(ctx, err)
			return shareRetry, false
		}
		s.found(began)
		s.add(slots)
		if want > 0 && slots.N == 0 {
			return min(max(next, time.Millisecond), quota.Ask), false
		}
		return quota.Ask, true
	}
	return time.Millisecond + time.Duration(rand.Int64N(int64(2*time.Millisecond))), false
}

// errClock: see the package comment of quota.
var errClock = errors.New("the clock of this node or of another one is wrong: the quota's register is ahead of every lease; see that all clocks are set by NTP")

// lease makes one exchange with the centre. Where it has nothing to give yet, it
// tells how long that will be so.
func (s *share) lease(ctx context.Context, spacing time.Duration, want int) (slots quota.Slots, next time.Duration, err error) {
	away := s.awayNow()
	r, v, err := s.quota.Centre.Load(ctx, s.partner)
	now := s.now().UnixNano()
	switch {
	case errors.Is(err, quota.ErrMissing) && want == 0 && !away:
		return slots, 0, nil
	case errors.Is(err, quota.ErrMissing):
		pause := quota.WipePause
		if away {
			pause = quota.Pause
		}
		anew := quota.Begin(now, spacing, pause)
		return slots, time.Duration(anew.Next - int64(quota.Ahead) - now), s.quota.Centre.Store(ctx, s.partner, anew, nil)
	case err != nil:
		return slots, 0, err
	}
	changed := r
	switch {
	case r.Strange(now):
		if r != s.still {
			s.still, s.stands = r, time.Now()
		}
		if time.Since(s.stands) <= quota.Pause+quota.Skew {
			return slots, 0, errClock
		}
		changed = quota.Begin(now, spacing, quota.Pause)
	case away:
		changed = r.Resume(now)
	}
	changed, slots = changed.Lease(now, spacing, want)
	next = time.Duration(changed.Next - int64(quota.Ahead) - now)
	confirms := changed.Kept-r.Kept > int64(quota.Confirm/2)
	if slots.N == 0 && changed.Spacing == r.Spacing && !confirms && (changed.Next == r.Next || want == 0 && !away) {
		return slots, next, nil // there is nothing to write
	}
	return slots, next, s.quota.Centre.Store(ctx, s.partner, changed, v)
}

// awayNow reports whether other nodes may be in standby: the centre was away, or this
// process has stood still for so long that it may have been.
func (s *share) awayNow() bool { return s.away || time.Since(s.reached) > quota.StandbyAfter/2 }

// found notes that the centre was reached by an exchange that began then.
func (s *share) found(began time.Time) {
	s.away, s.reached = false, began
	s.enterMode(modeCentral, nil)
}

// lost notes that it was not. After a while the lane goes on alone.
func (s *share) lost(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the lane ends
	}
	s.away = true
	s.mu.Lock()
	s.status.Problem = err.Error()
	mode := s.status.Mode
	rate := s.rate
	s.mu.Unlock()
	if time.Since(s.reached) < quota.StandbyAfter {
		return
	}
	nodes := 0
	if s.quota.Instances != nil {
		nodes = s.quota.Instances()
	}
	if s.quota.Standby <= 0 || nodes <= 0 || errors.Is(err, errClock) {
		s.enterMode(modePaused, err)
		return
	}
	now := s.now().UnixNano()
	spacing := quota.Spacing(rate * gift.Rate(s.quota.Standby) / gift.Rate(nodes))
	if mode != modeStandby {
		s.enterMode(modeStandby, err)
		s.local = quota.Register{Next: now + int64(spacing)}
	}
	s.local.Kept = now // nobody else is to be asked
	s.mu.Lock()
	want := s.want(quota.Ahead)
	s.mu.Unlock()
	var slots quota.Slots
	s.local, slots = s.local.Lease(now, spacing, want)
	s.add(slots)
}

// enterMode says aloud what changes. What was held in the mode before is let go,
// but for what the centre gave: that is good until it has passed.
func (s *share) enterMode(mode string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.status.Mode
	if mode == modeCentral {
		s.status.Problem = ""
	}
	if mode == from {
		return
	}
	s.status.Mode, s.status.Since = mode, s.now().UTC()
	if from == modeStandby {
		s.drop()
	}
	switch mode {
	case modeCentral:
		s.logger.Info("the lane's rate is shared out by the centre", "was", from)
	case modeStandby:
		s.logger.Warn("the quota's centre is away: the lane uses its standby share of the rate", "share", fmt.Sprintf("%g of the rate ÷ nodes", s.quota.Standby), "err", err)
	default:
		s.logger.Error("the quota's centre is away and there is no standby: the lane pauses", "err", err)
	}
}
