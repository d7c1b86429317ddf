package rocketmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// record keeps what is logged.
type record struct {
	mu    sync.Mutex
	lines []string
	moved chan struct{} // closed and replaced at each line
}

// Enabled implements slog.Handler.
func (h *record) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h *record) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line)
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
	return nil
}

// await waits until n lines have been logged that have all these parts.
func (h *record) await(t *testing.T, n int, parts ...string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		h.mu.Lock()
		found := 0
		for _, line := range h.lines {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				found++
			}
		}
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved, lines := h.moved, h.lines
		h.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("%d lines with %q were logged, want %d; there are\n%s", found, parts, n, strings.Join(lines, "\n"))
		}
	}
}

// WithAttrs implements slog.Handler.
func (h *record) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *record) WithGroup(string) slog.Handler { return h }
