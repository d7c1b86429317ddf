package node

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// apart is how far this node's clock may be from the register's unmentioned: more
	// than clocks are that NTP sets, less than what quotas allow for (quota.Skew).
	apart = 100 * time.Millisecond
	// exact is what a comparison may have taken that is worth something.
	exact = apart
)

// clock compares this node's clock with the register's, which is the same for all
// nodes. Its methods are safe for concurrent use.
type clock struct {
	logger *slog.Logger

	mu    sync.Mutex    // guards ahead
	ahead time.Duration // of the register's clock; 0 unless that is certain, and more than apart
}

// compare takes in what the register's clock said at some moment from began to ended.
// So this one's is ahead by something between began − theirs and ended − theirs.
func (c *clock) compare(began, ended, theirs time.Time) {
	took := ended.Sub(began)
	if took > exact {
		return
	}
	ahead := began.Add(took / 2).Sub(theirs)
	if ahead.Abs()-took/2 <= apart {
		ahead = 0
	}
	c.mu.Lock()
	before := c.ahead
	c.ahead = ahead
	c.mu.Unlock()
	switch {
	case ahead != 0 && before == 0:
		c.logger.Error("this node's clock is wrong, or that of the register's server: see that both are set by NTP; meanwhile its lanes keep the rates by the register's", "ahead", ahead.Round(time.Millisecond))
	case ahead == 0 && before != 0:
		c.logger.Info("this node's clock is right again", "was_ahead", before.Round(time.Millisecond))
	}
}

func (c *clock) wrongBy() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// now is the time on which all nodes agree, to apart or better: this node's, or the
// register's where this node's is wrong.
func (c *clock) now() time.Time { return time.Now().Add(-c.wrongBy()) }

// note says what is wrong with the clock; "" where nothing is known to be.
func (c *clock) note() string {
	ahead, way := c.wrongBy(), "ahead of"
	if ahead == 0 {
		return ""
	}
	if ahead < 0 {
		ahead, way = -ahead, "behind"
	}
	return fmt.Sprintf("clock: this node's is %v %s the register's (PostgreSQL's server): see that both are set by NTP", ahead.Round(time.Millisecond), way)
}
