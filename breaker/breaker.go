package breaker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"manna/gift"
)

// ErrOpen: the breaker refuses the call. Nothing was called. It is wrapped with
// the breaker's name.
var ErrOpen = errors.New("breaker is open")

// engine is the automatic breaker beneath the modes. It knows no clock but
// time.Now and tells nobody when it changes by itself, which is why Breaker keeps
// a timer. Its Counts are stale until its State is asked.
type engine = gobreaker.TwoStepCircuitBreaker[any]

var (
	errFailed    = errors.New("failed")
	errAbandoned = errors.New("abandoned")
)

// Breaker guards the calls to one dependency. It is safe for concurrent use.
type Breaker struct {
	name     string
	refusal  error
	onChange func(Snapshot)

	// mu is always taken before the engine's own lock, and the engine is called
	// under it alone; so the engine's callbacks, which run under both, may
	// change what mu guards but never call the engine.
	mu       sync.Mutex
	settings Settings
	engine   *engine
	stale    bool // the engine was made with other settings
	mode     Mode
	state    State // the engine's, whatever the mode
	since    time.Time
	retryAt  time.Time
	calls    int // as Snapshot has them
	failures int
	opened   uint64
	probe    *Call         // the call that decides while half-open
	turn     bool          // Wait has sent somebody to make the probe
	changed  chan struct{} // closed when Wait should look again; nil while nobody waits

	// One timer serves the open period, a probe's lease and a turn's, of which
	// there is one at a time; alarm tells a timer that was stopped too late.
	timer *time.Timer
	alarm uint64

	untold  []Snapshot
	telling bool
}

// Option adds to a Breaker what Settings, which a reload may change, do not hold.
type Option func(*Breaker)

// OnChange has f called after each change of mode or state, one call at a time
// and in their order. It runs on a goroutine that uses the breaker, outside its
// lock: it may use the breaker and must not block.
func OnChange(f func(Snapshot)) Option { return func(b *Breaker) { b.onChange = f } }

// New makes a closed, automatic breaker. The name is one gift name or two with a
// '/' between. An error tells what is wrong with name or settings.
func New(name string, s Settings, opts ...Option) (*Breaker, error) {
	for i, part := range strings.Split(name, "/") {
		if err := gift.CheckName(part); err != nil || i > 1 {
			return nil, fmt.Errorf("%q cannot name a breaker: use a name like queue or partner/midas", name)
		}
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("breaker %s: %w", name, err)
	}
	b := &Breaker{name: name, refusal: fmt.Errorf("%s: %w", name, ErrOpen), settings: s, since: time.Now()}
	for _, o := range opts {
		o(b)
	}
	b.engine = b.newEngine(Closed)
	return b, nil
}

// Name is the name the breaker was made with.
func (b *Breaker) Name() string { return b.name }

// Allow lets one call through, or says ErrOpen: held open, open, or half-open
// with its probe out. Each Call it returns must be Done.
func (b *Breaker) Allow() (*Call, error) {
	b.mu.Lock()
	defer b.unlock()
	if b.mode == HeldOpen {
		return nil, b.refusal
	}
	done, err := b.engine.Allow()
	if err != nil {
		return nil, b.refusal
	}
	c := &Call{breaker: b, done: done}
	if b.settings.SlowCall > 0 {
		c.began = time.Now()
	}
	if b.state == HalfOpen {
		b.probe, b.turn = c, false
		b.arm(b.settings.lease())
	}
	return c, nil
}

// Hold changes the mode. Where that must survive a restart, the caller has made
// it durable before.
func (b *Breaker) Hold(m Mode) {
	if m > HeldClosed {
		panic(fmt.Sprintf("breaker %s: Hold(%v)", b.name, m))
	}
	b.mu.Lock()
	defer b.unlock()
	if m == b.mode {
		return
	}
	if b.mode == HeldClosed || m == HeldClosed && b.state != Closed {
		b.renew(Closed)
	}
	if b.turn { // whoever has it may have been refused meanwhile
		b.turn = false
		b.disarm()
	}
	b.mode, b.since = m, time.Now()
	b.wake()
	b.record()
}

// Reconfigure puts other settings in force and keeps mode and state. A new Window
// or OpenFor begins an empty window in a closed breaker and a new open period in
// an open one; in a half-open one it waits for the probe. An error changes
// nothing.
func (b *Breaker) Reconfigure(s Settings) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("breaker %s: %w", b.name, err)
	}
	b.mu.Lock()
	defer b.unlock()
	old := b.settings
	b.settings = s
	b.stale = b.stale || s.Window != old.Window || s.OpenFor != old.OpenFor
	b.refresh()
	return nil
}

// Snapshot tells how the breaker stands.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.look()
}

// look brings the counts up to date and tells how the breaker stands. It asks
// the engine, so no callback of the engine's may use it.
func (b *Breaker) look() Snapshot {
	if b.state == Closed {
		b.engine.State() // rolls the window on to now
		c := b.engine.Counts()
		b.calls, b.failures = int(c.TotalSuccesses+c.TotalFailures), int(c.TotalFailures)
	}
	return b.snapshot()
}

func (b *Breaker) snapshot() Snapshot {
	s := Snapshot{
		Name: b.name, Mode: b.mode, State: b.state,
		Calls: b.calls, Failures: b.failures, Since: b.since, RetryAt: b.retryAt,
	}
	if b.mode == HeldOpen {
		s.State, s.RetryAt = Open, time.Time{}
	}
	return s
}

// newEngine makes an engine that is closed with an empty window, or has just
// opened. There is no way to open one but to fail a call.
func (b *Breaker) newEngine(state State) *engine {
	opening := state == Open
	var e *engine
	e = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     b.settings.Window,
		BucketPeriod: b.settings.Window / buckets,
		Timeout:      b.settings.OpenFor,
		IsExcluded:   func(err error) bool { return err == errAbandoned },
		ReadyToTrip:  func(c gobreaker.Counts) bool { return opening || b.tooMany(c) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if e == b.engine { // a call of an engine since replaced may still end
				b.enter(State(to))
			}
		},
	})
	if opening {
		if done, err := e.Allow(); err == nil {
			done(errFailed)
		}
		opening = false
	}
	return e
}

// tooMany judges the window. Requests would count calls still under way.
func (b *Breaker) tooMany(c gobreaker.Counts) bool {
	if b.mode == HeldClosed {
		return false
	}
	n := c.TotalSuccesses + c.TotalFailures
	if int64(n) < int64(b.settings.MinCalls) || float64(c.TotalFailures)/float64(n) < b.settings.FailureRatio {
		return false
	}
	b.calls, b.failures = int(n), int(c.TotalFailures)
	return true
}

// enter follows the engine into a state.
func (b *Breaker) enter(to State) {
	from := b.state
	b.state, b.probe, b.turn, b.retryAt = to, nil, false, time.Time{}
	b.disarm()
	switch to {
	case Closed:
		b.calls, b.failures = 0, 0
	case Open:
		b.opened++
		if from == HalfOpen {
			b.calls, b.failures = 1, 1
		}
		b.openPeriod()
	}
	b.wake()
	if b.mode != HeldOpen {
		b.since = time.Now()
		b.record()
	}
}

// openPeriod begins the wait for the first probe. The engine lets it pass after
// OpenFor, not at OpenFor.
func (b *Breaker) openPeriod() {
	b.retryAt = time.Now().Add(b.settings.OpenFor)
	b.arm(b.settings.OpenFor + 1)
}

// renew replaces the engine by one made with the settings in force. Results of
// calls under way go to the old one and count no more.
func (b *Breaker) renew(state State) {
	b.engine, b.stale = b.newEngine(state), false
	b.state, b.probe, b.turn, b.retryAt = state, nil, false, time.Time{}
	b.disarm()
	switch state {
	case Closed:
		b.calls, b.failures = 0, 0
	case Open:
		b.openPeriod()
	}
	b.wake()
}

// refresh renews an engine made with other settings once no probe is out.
func (b *Breaker) refresh() {
	if b.stale && b.state != HalfOpen {
		b.renew(b.state)
	}
}

// arm has tick called after d, in place of what was armed before.
func (b *Breaker) arm(d time.Duration) {
	b.disarm()
	alarm := b.alarm
	b.timer = time.AfterFunc(d, func() { b.tick(alarm) })
}

func (b *Breaker) disarm() {
	b.alarm++
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// tick is the end of an open period, of a probe's lease or of a turn's.
func (b *Breaker) tick(alarm uint64) {
	b.mu.Lock()
	defer b.unlock()
	switch {
	case alarm != b.alarm:
	case b.state == Open:
		b.engine.State() // has the engine see the time
	case b.probe != nil:
		b.probe.end(Failure)
	default:
		b.turn = false
		b.wake()
	}
}

// record keeps how the breaker stands now for OnChange.
func (b *Breaker) record() {
	if b.onChange != nil {
		b.untold = append(b.untold, b.snapshot())
	}
}

// unlock lets go of mu and then tells OnChange what was recorded, unless another
// goroutine is telling already and will tell this too.
func (b *Breaker) unlock() {
	if b.telling || len(b.untold) == 0 {
		b.mu.Unlock()
		return
	}
	b.telling = true
	defer func() {
		b.telling = false
		b.mu.Unlock()
	}()
	for len(b.untold) > 0 {
		s := b.untold[0]
		b.untold = b.untold[1:]
		b.tell(s)
	}
}

func (b *Breaker) tell(s Snapshot) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.onChange(s)
}
