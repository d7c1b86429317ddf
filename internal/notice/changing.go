package notice

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// changesAtOnce is how many changes are written as they come, after a quiet interval:
// that something began, and that it is over.
const changesAtOnce = 2

// Changing writes how one thing stands that may come and go. Its methods are safe for
// concurrent use.
type Changing struct {
	logger *slog.Logger

	// mu guards the next fields. It is held while a line is written: of two changes the
	// later one's line comes later.
	mu      sync.Mutex
	timer   *time.Timer // ends the interval; nil outside of one
	written int         // in this interval and those before it without a quiet one
	more    int         // that were not written in this interval
	last    change      // of them
}

// change is a line as it would be written.
type change struct {
	level   slog.Level
	message string
	args    []any
}

// NewChanging makes one for one thing. It starts no goroutine; the last line comes up to
// an interval after the last Tell.
func NewChanging(logger *slog.Logger) *Changing { return &Changing{logger: logger} }

// Tell says that the thing has changed, and how it stands now. After a quiet interval the
// first two changes are written at once: one that begins and ends is. Later ones are
// counted, and the line at the end of the interval is the last of them, with their number
// as more. So the last line about it says how it stands.
func (c *Changing) Tell(level slog.Level, message string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer, c.written = time.AfterFunc(Every, c.sum), 0
	}
	if c.written < changesAtOnce {
		c.written++
	} else {
		c.more++
		c.last = change{level, message, args}
		level = slog.LevelDebug
	}
	c.logger.Log(context.Background(), level, message, args...)
}

// TellNow says it too, and is written at once however often the thing has changed: it is
// for what a person did. A line that waits for the end of the interval is dropped, for it
// says how the thing stood before.
func (c *Changing) TellNow(level slog.Level, message string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.more, c.last = 0, change{}
	c.logger.Log(context.Background(), level, message, args...)
}

// sum ends an interval. A quiet one ends the series.
func (c *Changing) sum() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more == 0 {
		c.timer = nil
		return
	}
	more, last := c.more, c.last
	c.more, c.last = 0, change{}
	c.timer.Reset(Every)
	c.logger.Log(context.Background(), last.level, last.message, append([]any{"more", more, "within", Every}, last.args...)...)
}
