package demo

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"manna/console"
	"manna/consumer"
)

const (
	plainEvery = 2 * time.Second // between lines where there is no terminal
	barWidth   = 30
)

// view tells how the demo goes: a live picture on a terminal, plain lines
// elsewhere. Safe for concurrent use.
type view struct {
	out   *os.File
	live  bool
	quiet bool
	plan  *plan

	mu       sync.Mutex
	began    time.Time
	crowd    *crowd
	drawn    int // lines of the picture on the screen
	last     time.Time
	sent     int64
	granted  map[string]uint64
	peak     map[string]int64 // highest backlog seen, by lane
	lastLine time.Time
}

func newView(o Options, p *plan) *view {
	return &view{
		out: o.Progress, quiet: o.Quiet, live: !o.Quiet && term.IsTerminal(int(o.Progress.Fd())), plan: p,
		began: time.Now(), granted: make(map[string]uint64), peak: make(map[string]int64),
	}
}

func (v *view) begin(c *crowd) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.crowd = c
}

// note tells one thing that happened.
func (v *view) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.quiet {
		return
	}
	v.erase()
	fmt.Fprintf(v.out, "%5.1fs  %s\n", time.Since(v.began).Seconds(), text)
}

func (v *view) erase() {
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// show draws how the server stands now; err is why that is not known.
func (v *view) show(s *console.Status, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.quiet || v.crowd == nil {
		return
	}
	now := time.Now()
	if !v.live && now.Sub(v.lastLine) < plainEvery {
		return
	}
	v.lastLine = now
	span := now.Sub(v.last).Seconds()
	sent := v.crowd.sent.Load()
	perSecond := float64(sent-v.sent) / span
	v.sent = sent
	claims := fmt.Sprintf("claims %5.0f/s  sent %d of %d  accepted %d  duplicates %d", perSecond, sent, v.plan.claims, v.crowd.accepted.Load(), v.crowd.duplicates.Load())
	if v.last.IsZero() {
		claims = "claims begin"
	}
	lines := []string{claims}
	if err != nil {
		lines = append(lines, "the server does not answer")
	} else {
		for _, l := range s.Lanes {
			lines = append(lines, v.lane(l, span))
		}
		lines = append(lines, fmt.Sprintf("log at %v", s.LogEnd))
	}
	v.last = now
	if !v.live {
		fmt.Fprintf(v.out, "%5.1fs  %s\n", now.Sub(v.began).Seconds(), strings.Join(lines, " | "))
		return
	}
	v.erase()
	for _, line := range lines {
		fmt.Fprintf(v.out, "       %s\n", line)
	}
	v.drawn = len(lines)
}

func (v *view) lane(l consumer.LaneStatus, span float64) string {
	calls := l.Calls
	if calls < v.granted[l.Partner] {
		v.granted[l.Partner] = 0 // the server is another process now
	}
	rate := float64(calls-v.granted[l.Partner]) / span
	v.granted[l.Partner] = calls
	left := l.Queue.Backlog + l.Queue.Deferred + l.Queue.Held
	v.peak[l.Partner] = max(v.peak[l.Partner], left)
	if !v.live {
		return fmt.Sprintf("%s backlog %d, %.0f of %v, %v", l.Partner, left, rate, l.Rate, l.Breaker.State)
	}
	bar := 0
	if v.peak[l.Partner] > 0 {
		bar = int(left * barWidth / v.peak[l.Partner])
	}
	state := fmt.Sprint(l.Breaker.State)
	if state != "closed" {
		state = "\x1b[31m" + state + "\x1b[0m"
	}
	return fmt.Sprintf("%-6s %s%s %6d waiting  %4.0f/s of %v  breaker %s", l.Partner, strings.Repeat("█", bar), strings.Repeat("░", barWidth-bar), left, rate, l.Rate, state)
}
