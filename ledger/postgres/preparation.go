package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/ledger"
)

// preparation is one try to make the schema as this program knows it, and to end the
// node's crashed runs. All calls that come meanwhile share it.
type preparation struct {
	began     time.Time
	migrating chan struct{} // closed once it is known that the schema has to change
	done      chan struct{} // closed when it has ended
	err       error         // why it failed; to be read once done is closed
}

var errClosed = errors.New("the ledger is closed")

// prepare succeeds once the schema is ready, which is tried with every call until
// then. Whether it is, is found out within Options.Timeout; while it is changed,
// which may take any time, calls do not wait for it.
func (l *Ledger) prepare(ctx context.Context) error {
	if l.ready.Load() {
		return nil
	}
	p := l.preparation()
	select {
	case <-p.done:
		return p.err
	case <-p.migrating:
	case <-ctx.Done():
		return l.explain("wait for the schema", ctx.Err())
	}
	select {
	case <-p.done:
		return p.err
	default:
		return notYet(fmt.Sprintf("PostgreSQL at %s: the schema %s is being prepared, since %s: it may take minutes after an upgrade, the log shows the statements",
			l.addr, l.opts.Schema, time.Since(p.began).Round(time.Second)))
	}
}

// notYet is a ledger.ErrUnavailable that says so in its own words.
type notYet string

func (e notYet) Error() string { return string(e) }
func (e notYet) Unwrap() error { return ledger.ErrUnavailable }

// preparation gives the try that is under way, or begins one. It belongs to the
// ledger, not to the call that began it: no caller's haste undoes half of a migration.
func (l *Ledger) preparation() *preparation {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.preparing != nil {
		return l.preparing
	}
	p := &preparation{began: time.Now(), migrating: make(chan struct{}), done: make(chan struct{})}
	if l.life.Err() != nil {
		p.err = errClosed
		close(p.done)
		return p
	}
	l.preparing = p
	l.owned.Go(func() {
		p.err = l.makeReady(l.life, p)
		l.ready.Store(p.err == nil)
		l.mu.Lock()
		l.preparing = nil
		l.mu.Unlock()
		close(p.done)
	})
	return p
}

// makeReady asks for the schema's version without any lock: nodes that start where
// nothing is to be done do not wait for each other.
func (l *Ledger) makeReady(ctx context.Context, p *preparation) error {
	at, known, err := l.versions(ctx)
	if err == nil && at > known {
		err = l.newer(at, known)
	}
	if err != nil {
		return l.explain("read the schema's version", err)
	}
	if at < known {
		close(p.migrating)
		if err := l.migrate(ctx); err != nil {
			return l.explain(preparing, err)
		}
	}
	bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	return l.explain("end the runs of an earlier process", l.endCrashed(bounded))
}

// await waits for the schema as long as ctx lasts, with Later only as long as a call
// may take.
func (l *Ledger) await(ctx context.Context) error {
	p := l.preparation()
	var patience <-chan time.Time
	if l.opts.Later {
		timer := time.NewTimer(l.opts.Timeout)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case <-p.done:
		return p.err
	case <-patience:
		return l.prepare(ctx)
	case <-ctx.Done():
		return l.explain("wait for the schema", ctx.Err())
	}
}
