package node

import (
	"log/slog"
	"sync"

	"manna/breaker"
	"manna/internal/notice"
)

// breakerLog tells how breakers change: what people do at once, and what a breaker does by
// itself as often as a person can read it. It serves one breaker, or some of different
// names that are made together; one that is made again has a log of its own. Safe for
// concurrent use.
type breakerLog struct {
	logger *slog.Logger

	mu sync.Mutex // guards of and what it holds; it is held while a line is told
	of map[string]*breakerTold
}

// breakerTold is what was said of one breaker.
type breakerTold struct {
	changing *notice.Changing
	mode     breaker.Mode
	state    breaker.State // open or closed
}

func newBreakerLog(logger *slog.Logger) *breakerLog {
	return &breakerLog{logger: logger, of: make(map[string]*breakerTold)}
}

// changed is told of each change of each breaker. That one is tried again, and that a try
// has failed, is no news.
func (l *breakerLog) changed(s breaker.Snapshot) {
	level := slog.LevelInfo
	if s.State == breaker.Open {
		level = slog.LevelWarn
	}
	args := []any{"name", s.Name, "state", s.State, "mode", s.Mode, "calls", s.Calls, "failures", s.Failures, "retry_at", s.RetryAt}
	l.mu.Lock()
	defer l.mu.Unlock()
	told, ok := l.of[s.Name]
	if !ok {
		told = &breakerTold{changing: notice.NewChanging(l.logger)}
		l.of[s.Name] = told
	}
	held, changed := s.Mode != told.mode, s.State != breaker.HalfOpen && s.State != told.state
	if told.mode = s.Mode; s.State != breaker.HalfOpen {
		told.state = s.State
	}
	switch {
	case held:
		told.changing.TellNow(level, "breaker", args...)
	case changed:
		told.changing.Tell(level, "breaker", args...)
	default:
		l.logger.Debug("breaker", args...)
	}
}
