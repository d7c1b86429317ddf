package breaker

import "time"

// Result is what a call said about the health of what was called.
type Result uint8

const (
	// Failure: it is not well. This is the zero Result, so a deferred Done of a
	// call that panicked counts as one.
	Failure Result = iota
	// Success: it is well, unless the call took longer than SlowCall.
	Success
	// Abandoned: the caller gave the call up, or never made it; it says nothing.
	Abandoned
)

// Call is one call that was let through.
type Call struct {
	breaker *Breaker
	done    func(error)
	began   time.Time // zero where nothing was slow then
	ended   bool      // guarded by the breaker's mu
}

// Done tells how the call went. The first Done counts, further ones do nothing;
// so does one that comes after a probe's lease.
func (c *Call) Done(r Result) {
	c.breaker.mu.Lock()
	defer c.breaker.unlock()
	c.end(r)
}

func (c *Call) end(r Result) {
	if c.ended {
		return
	}
	c.ended = true
	b := c.breaker
	slow := b.settings.SlowCall > 0 && !c.began.IsZero() && time.Since(c.began) > b.settings.SlowCall
	switch {
	case r == Abandoned:
		c.done(errAbandoned)
	case r == Success && !slow:
		c.done(nil)
	default:
		c.done(errFailed)
	}
	if b.probe == c { // it decided nothing
		b.probe = nil
		b.disarm()
		b.wake()
	}
	b.refresh()
}
