package consumer

import (
	"context"
	"log/slog"
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
	// Now is a clock on which all nodes agree; default Options.Now.
	Now func() time.Time
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
	now     func() time.Time // the quota's clock
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
	if q.Now != nil {
		now = q.Now
	}
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

// miss lets slots go whose moment has passed, and those that no lease can have left: the
// quota's clock has been set back, and others may have gone on without them.
func (s *share) miss(now int64) {
	if len(s.slots) > 0 && s.slots[0].First-now > int64(quota.Ahead) {
		s.drop()
	}
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
