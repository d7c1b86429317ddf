package breaker

import "context"

// Wait blocks while Allow would refuse. It returns at once when a mode changes,
// when an open period ends or when a probe has decided. Of those who wait on a
// half-open breaker one returns and has the turn to make the probe; one who does
// not use it passes it on after the call's timeout and a second. The error is
// ctx's.
//
// A nil error is no permission: that is Allow's to give, and it may be late.
func (b *Breaker) Wait(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		changed, ok := b.ask()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// ask reports whether Wait is over, and otherwise when to ask again.
func (b *Breaker) ask() (changed <-chan struct{}, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mode == HeldOpen:
	case b.state == Closed:
		return nil, true
	case b.state == HalfOpen && b.probe == nil && !b.turn:
		b.turn = true
		b.arm(b.settings.lease())
		return nil, true
	}
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed, false
}

// wake has everybody in Wait ask again.
func (b *Breaker) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
