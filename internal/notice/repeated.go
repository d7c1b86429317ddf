package notice

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is the interval between two lines about the same thing. A person reads it
// as "still"; half an hour of it is two hundred lines.
const Every = 10 * time.Second

// Repeated writes one line for many. Its methods are safe for concurrent use and
// never wait for one another's writing.
type Repeated struct {
	logger  *slog.Logger
	level   slog.Level
	message string

	mu    sync.Mutex  // guards the next fields
	timer *time.Timer // ends the interval; nil outside of one
	more  int         // that were not written in this interval
	last  []any       // attributes of the last of them
}

// NewRepeated makes the line of one message at one level. It starts no goroutine;
// the last summary comes up to an interval after the last Tell.
func NewRepeated(logger *slog.Logger, level slog.Level, message string) *Repeated {
	return &Repeated{logger: logger, level: level, message: message}
}

// Tell says that it happened, with attributes as a slog.Logger takes them. The
// first time in a while it is written at once. Later ones are counted, and the
// summary at the end of the interval has their number as more and the attributes
// of the last of them as an example.
func (r *Repeated) Tell(args ...any) {
	r.mu.Lock()
	first := r.timer == nil
	if first {
		r.timer = time.AfterFunc(Every, r.sum)
	} else {
		r.more++
		r.last = args
	}
	r.mu.Unlock()
	level := slog.LevelDebug
	if first {
		level = r.level
	}
	r.logger.Log(context.Background(), level, r.message, args...)
}

// sum ends an interval. A quiet one ends the series: the next Tell is a first one.
func (r *Repeated) sum() {
	r.mu.Lock()
	more, last := r.more, r.last
	r.more, r.last = 0, nil
	if more == 0 {
		r.timer = nil
	} else {
		r.timer.Reset(Every)
	}
	r.mu.Unlock()
	if more > 0 {
		r.logger.Log(context.Background(), r.level, r.message, append([]any{"more", more, "within", Every}, last...)...)
	}
}
