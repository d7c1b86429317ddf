package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"manna/fallbacklog"
)

// maxOpening is the longest pause between two tries to open a ledger.
const maxOpening = 10 * time.Second

// Patient is a ledger that a node need not wait for: it is opened behind the
// node's back, again and again until that succeeds. Before, every method fails
// with ErrNotOpen, wrapped with why the last try failed. Claims and deliveries
// never ask a ledger, so they go on meanwhile.
type Patient struct {
	try    func(context.Context) (Ledger, error)
	logger *slog.Logger
	opened chan struct{} // closed once there is an engine

	mu     sync.Mutex // guards the next fields
	engine Ledger     // nil until it is open
	why    error      // why it is not
	closed bool
}

var _ Ledger = (*Patient)(nil)

// NewPatient makes a ledger out of a try to open one.
func NewPatient(try func(context.Context) (Ledger, error), logger *slog.Logger) *Patient {
	return &Patient{try: try, logger: logger, opened: make(chan struct{}), why: errors.New("it is being opened")}
}

// Open tries until the ledger is open, ctx ends or the ledger is closed. Its error
// is only that of closing what was opened too late. It is called once.
func (p *Patient) Open(ctx context.Context) error {
	for pause, tries := minBackoff, 1; ; pause, tries = min(2*pause, maxOpening), tries+1 {
		l, err := p.try(ctx)
		if err == nil {
			if tries > 1 {
				p.logger.Info("ledger is open", "tries", tries)
			}
			return p.adopt(l)
		}
		if ctx.Err() != nil {
			return nil
		}
		level := slog.LevelError
		if !p.failed(err) {
			level = slog.LevelDebug // it has been said
		}
		p.logger.Log(ctx, level, "ledger cannot be opened; claims and deliveries go on, it is tried again", "err", err)
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return nil
		}
	}
}

// adopt puts an open engine in place.
func (p *Patient) adopt(l Ledger) error {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.engine, p.why = l, nil
		close(p.opened)
	}
	p.mu.Unlock()
	if closed {
		return l.Close()
	}
	return nil
}

// failed notes why a try failed; news is false where the last one failed so too.
func (p *Patient) failed(err error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news = p.why.Error() != err.Error()
	p.why = err
	return news
}

// Opened is closed when the ledger is open.
func (p *Patient) Opened() <-chan struct{} { return p.opened }

// ledger gives the engine, or why there is none.
func (p *Patient) ledger() (Ledger, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpen, p.why)
	}
	return p.engine, nil
}

// Close lets the engine go, and one that is opened only now.
func (p *Patient) Close() error {
	p.mu.Lock()
	l := p.engine
	p.closed = true
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.Close()
}

// Ping implements Ledger.
func (p *Patient) Ping(ctx context.Context) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.Ping(ctx)
}

// UserClaims implements Claims.
func (p *Patient) UserClaims(ctx context.Context, user string, before Cursor, limit int) ([]ClaimRow, time.Time, Cursor, error) {
	l, err := p.ledger()
	if err != nil {
		return nil, time.Time{}, Cursor{}, err
	}
	return l.UserClaims(ctx, user, before, limit)
}

// Position implements Claims.
func (p *Patient) Position(ctx context.Context, node string) (fallbacklog.Position, error) {
	l, err := p.ledger()
	if err != nil {
		return 0, err
	}
	return l.Position(ctx, node)
}

// Switches implements Switches.
func (p *Patient) Switches(ctx context.Context) ([]Switch, error) {
	l, err := p.ledger()
	if err != nil {
		return nil, err
	}
	return l.Switches(ctx)
}

// WantsOutcomes implements Store; false while the ledger is not open, when no batch
// can be applied either.
func (p *Patient) WantsOutcomes() bool {
	l, err := p.ledger()
	return err == nil && l.WantsOutcomes()
}

// Place implements Store.
func (p *Patient) Place(ctx context.Context, node string) (Place, error) {
	l, err := p.ledger()
	if err != nil {
		return Place{}, err
	}
	return l.Place(ctx, node)
}

// Apply implements Store.
func (p *Patient) Apply(ctx context.Context, b *Batch) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.Apply(ctx, b)
}

// Seen implements Store.
func (p *Patient) Seen(ctx context.Context, node string, asOf time.Time) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.Seen(ctx, node, asOf)
}

// Reset implements Store.
func (p *Patient) Reset(ctx context.Context, node string) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.Reset(ctx, node)
}

// StartRun implements Runs.
func (p *Patient) StartRun(ctx context.Context, s RunStart) (Run, error) {
	l, err := p.ledger()
	if err != nil {
		return Run{}, err
	}
	return l.StartRun(ctx, s)
}

// RenewRun implements Runs.
func (p *Patient) RenewRun(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.RenewRun(ctx, id, epoch, lease)
}

// FinishRun implements Runs.
func (p *Patient) FinishRun(ctx context.Context, id string, epoch int64, end RunEnd) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.FinishRun(ctx, id, epoch, end)
}

// Run implements Runs.
func (p *Patient) Run(ctx context.Context, id string) (Run, error) {
	l, err := p.ledger()
	if err != nil {
		return Run{}, err
	}
	return l.Run(ctx, id)
}

// Runs implements Runs.
func (p *Patient) Runs(ctx context.Context, before Cursor, limit int) ([]Run, Cursor, error) {
	l, err := p.ledger()
	if err != nil {
		return nil, Cursor{}, err
	}
	return l.Runs(ctx, before, limit)
}

// LastSlot implements Runs.
func (p *Patient) LastSlot(ctx context.Context) (Slots, error) {
	l, err := p.ledger()
	if err != nil {
		return Slots{}, err
	}
	return l.LastSlot(ctx)
}

// Audit implements Audits.
func (p *Patient) Audit(ctx context.Context, e Entry) error {
	l, err := p.ledger()
	if err != nil {
		return err
	}
	return l.Audit(ctx, e)
}

// AuditLog implements Audits.
func (p *Patient) AuditLog(ctx context.Context, f AuditFilter, limit int) ([]Entry, Cursor, error) {
	l, err := p.ledger()
	if err != nil {
		return nil, Cursor{}, err
	}
	return l.AuditLog(ctx, f, limit)
}
