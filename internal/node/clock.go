package node

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"manna/internal/notice"
)

const (
	// apart is how far this node's clock may be from the register's unmentioned: more
	// than clocks are that NTP sets, less than what quotas allow for (quota.Skew).
	apart = 100 * time.Millisecond
	// anchorFor is how long an exact reading of the register's clock is preferred to a
	// later one that took longer.
	anchorFor = time.Minute
)

// clock compares this node's clock with the register's, which is the same for all
// nodes. Its methods are safe for concurrent use.
type clock struct {
	told *notice.Changing

	mu    sync.Mutex // guards the next fields
	wrong bool       // this node's clock is, for certain
	read  reading    // of the register's; zero unless wrong
}

// reading is what a clock said.
type reading struct {
	said  time.Time
	at    time.Time     // when, by this process's monotonic clock
	error time.Duration // how much earlier or later that may have been
}

func newClock(logger *slog.Logger) *clock { return &clock{told: notice.NewChanging(logger)} }

// compare takes in what the register's clock said at some moment from began to ended.
// So this one's is ahead by something between began − theirs and ended − theirs.
func (c *clock) compare(began, ended, theirs time.Time) {
	took := ended.Sub(began)
	now := reading{said: theirs, at: began.Add(took / 2), error: took / 2}
	ahead := now.at.Sub(theirs)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch wrong, right := ahead.Abs()-now.error > apart, ahead.Abs()+now.error < apart/2; {
	case wrong && !c.wrong:
		c.wrong, c.read = true, now
		c.told.Tell(slog.LevelError, "this node's clock is wrong, or that of the register's server: see that both are set by NTP; rates are kept by the register's meanwhile", "ahead", ahead.Round(time.Millisecond))
	case wrong && (now.error <= c.read.error || now.at.Sub(c.read.at) > anchorFor || c.read.contradicts(now)):
		c.read = now
	case right && c.wrong:
		c.wrong, c.read = false, reading{}
		c.told.Tell(slog.LevelInfo, "this node's clock is right again")
	}
}

// contradicts reports whether both cannot be of a clock that goes on as it did.
func (r reading) contradicts(later reading) bool {
	return later.said.Sub(r.said.Add(later.at.Sub(r.at))).Abs() > r.error+later.error
}

// now is the time on which nodes agree: this node's, which is apart from the register's
// at most, or the register's where this node's is wrong. That one goes on by itself,
// whatever becomes of this node's.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrong {
		return time.Now()
	}
	return c.read.said.Add(time.Since(c.read.at))
}

// ahead is how far this node's clock is before the register's; 0 unless it is wrong.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrong {
		return 0
	}
	now := time.Now()
	return now.Round(0).Sub(c.read.said.Add(now.Sub(c.read.at)))
}

// note says what is wrong with the clock; "" where nothing is known to be.
func (c *clock) note() string {
	ahead, way := c.ahead(), "ahead of"
	if ahead == 0 {
		return ""
	}
	if ahead < 0 {
		ahead, way = -ahead, "behind"
	}
	return fmt.Sprintf("clock: this node's is %v %s the register's (PostgreSQL's server): see that both are set by NTP", ahead.Round(time.Millisecond), way)
}
