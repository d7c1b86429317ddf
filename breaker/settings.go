package breaker

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Settings say when a Breaker opens and for how long.
type Settings struct {
	Window       time.Duration // how far back results count; at least 4 × Timeout
	FailureRatio float64       // opens at this share of failures, above 0 and at most 1
	MinCalls     int           // but not on fewer results than this
	SlowCall     time.Duration // a success slower than this is a failure; 0: none is too slow
	OpenFor      time.Duration // from opening to the first probe
	Timeout      time.Duration // what the caller bounds one call by
}

const (
	// buckets is how many steps the window rolls on in.
	buckets = 10
	// windowCalls is how many timeouts the window must hold: a result counts
	// where its call began, and in a shorter window the results of the slowest
	// calls would be old when they come, or come too late to count.
	windowCalls = 4
	// leaseMargin is what a probe may take beyond its timeout before it is taken
	// for lost.
	leaseMargin = time.Second
	// minDuration keeps a bucket and an open period well above the clock's grain.
	minDuration = time.Millisecond
)

// SettingError says which setting is wrong and what would be right.
type SettingError struct {
	Setting string // as the configuration spells it: "failure_ratio"
	Detail  string
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Detail }

// Validate reports everything that is wrong, as *SettingError values joined.
func (s Settings) Validate() error {
	var errs []error
	wrong := func(setting, format string, args ...any) {
		errs = append(errs, &SettingError{setting, fmt.Sprintf(format, args...)})
	}
	if s.Timeout < minDuration {
		wrong("timeout", "%v is too short: the least is %v", s.Timeout, minDuration)
	}
	switch least := max(windowCalls*s.Timeout, buckets*minDuration); {
	case s.Timeout > math.MaxInt64/windowCalls:
		wrong("timeout", "%v is too long", s.Timeout)
	case s.Window < least:
		wrong("window", "%v is too short to judge calls of up to %v: the least is %v", s.Window, s.Timeout, least)
	}
	if !(s.FailureRatio > 0 && s.FailureRatio <= 1) {
		wrong("failure_ratio", "%v is out of range: it is above 0 and at most 1", s.FailureRatio)
	}
	if s.MinCalls < 1 || s.MinCalls > math.MaxInt32 {
		wrong("min_calls", "%d is out of range: the least is 1", s.MinCalls)
	}
	if s.SlowCall < 0 || s.SlowCall > s.Timeout {
		wrong("slow_call", "%v can never be reached by a call of at most %v: use less, or 0 for none", s.SlowCall, s.Timeout)
	}
	if s.OpenFor < minDuration {
		wrong("open_for", "%v is too short: the least is %v", s.OpenFor, minDuration)
	}
	return errors.Join(errs...)
}

// lease is how long a probe, or the turn to make one, stays out at most.
func (s Settings) lease() time.Duration { return s.Timeout + leaseMargin }
