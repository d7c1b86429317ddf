package consumer

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"manna/internal/notice"
)

func TestErrorOfManyQueuesIsOneLine(t *testing.T) {
	var all error
	for i := range 12 {
		all = errors.Join(all, fmt.Errorf("queue/%d: it is away", i))
	}
	for want, err := range map[string]error{
		"queue/0: it is away":                         errors.New("queue/0: it is away"),
		"queue/0: it is away (and 11 more like it)":   all,
		"it is away; start it":                        errors.New("it is away\n  start it"),
		"it is away; start it (and 1 more like it)":   errors.Join(errors.New("it is away\nstart it"), errors.New("so is this")),
		"a: away; b: away; name those that are there": fmt.Errorf("%w; name those that are there", errors.Join(errors.New("a: away"), errors.New("b: away"))),
		"lane p: it is away: refused":                 fmt.Errorf("lane p: %w: %w", errors.New("it is away"), errors.New("refused")),
	} {
		if got := brief(err); got != want || strings.Contains(got, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReasonOfAStallIsOneLine(t *testing.T) {
	s := stall{told: notice.NewChanging(slog.New(slog.DiscardHandler)), gauge: prometheus.NewGauge(prometheus.GaugeOpts{})}
	s.begin(errors.New("it is away\nstart it"))
	if got := s.why(); got != "it is away; start it" {
		t.Errorf("got %q", got)
	}
	s.still(errors.New("it\nhangs"))
	if got := s.why(); got != "it; hangs" {
		t.Errorf("got %q", got)
	}
	s.end()
	if got := s.why(); got != "" {
		t.Errorf("when it is over: %q", got)
	}
}

// during is where lines go to: it is called while one is written.
type during func()

func (d during) Write(p []byte) (int, error) {
	d()
	return len(p), nil
}

// Who could change it before the line is written could also tell that first.
func TestTroubleDoesNotChangeWhileItIsTold(t *testing.T) {
	var shared trouble
	lines := 0
	shared.told = notice.NewChanging(slog.New(slog.NewTextHandler(during(func() {
		if lines++; shared.mu.TryLock() {
			shared.mu.Unlock()
			t.Error("it may change while a line is written")
		}
	}), nil)))
	shared.note(errors.New("it is away"))
	shared.note(nil)
	if lines != 2 {
		t.Errorf("%d lines of two changes", lines)
	}
}
