package node

import (
	"context"
	"log/slog"
	"sync"

	"manna/breaker"
	"manna/internal/notice"
)

// breakerLog tells how breakers change: what people do at once, and what a breaker does by
// itself as often as a person can read it. The zero one is ready. Safe for concurrent use.
type breakerLog struct {
	mu sync.Mutex
	of map[string]*breakerTold
}

// breakerTold is what was said of one breaker, which changes once at a time.
type breakerTold struct {
	changing *notice.Changing
	mode     breaker.Mode
	state    breaker.State // open or closed
}

func (l *breakerLog) about(logger *slog.Logger, name string) *breakerTold {
	l.mu.Lock()
	defer l.mu.Unlock()
	told, ok := l.of[name]
	if !ok {
		told = &breakerTold{changing: notice.NewChanging(logger)}
		if l.of == nil {
			l.of = make(map[string]*breakerTold)
		}
		l.of[name] = told
	}
	return told
}

// breakerChanged is told of each change of each breaker. That one is tried again, and that
// a try has failed, is no news.
func (n *Node) breakerChanged(s breaker.Snapshot) {
	told := n.told.about(n.logger, s.Name)
	level := slog.LevelInfo
	if s.State == breaker.Open {
		level = slog.LevelWarn
	}
	args := []any{"name", s.Name, "state", s.State, "mode", s.Mode, "calls", s.Calls, "failures", s.Failures, "retry_at", s.RetryAt}
	held, changed := s.Mode != told.mode, s.State != breaker.HalfOpen && s.State != told.state
	if told.mode = s.Mode; s.State != breaker.HalfOpen {
		told.state = s.State
	}
	switch {
	case held:
		n.logger.Log(context.Background(), level, "breaker", args...)
	case changed:
		told.changing.Tell(level, "breaker", args...)
	default:
		n.logger.Debug("breaker", args...)
	}
}
