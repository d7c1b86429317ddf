package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"manna/consumer/quota"
	"manna/gift"
)

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
var errClock = errors.New("the clock of this node or of another one is wrong: the quota's register is ahead of every lease; /readyz of the node whose clock it is says so; see that all clocks are set by NTP")

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
	s.enterMode(modeStandby, err)
	if mode != modeStandby || s.local.Strange(now) {
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
		why := "the quota's centre is away and there is no standby: the lane pauses"
		if errors.Is(err, errClock) {
			why = "the lane pauses until clocks agree"
		}
		s.logger.Error(why, "err", err)
	}
}
