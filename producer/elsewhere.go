package producer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"manna/gift"
	"manna/internal/notice"
	"manna/ledger"
)

// Elsewhere reads what the logs of all nodes say: the ledger that they share.
type Elsewhere interface {
	// Order and Claim are ledger.Outcomes'.
	Order(ctx context.Context, id gift.OrderID) (ledger.OrderRow, error)
	Claim(ctx context.Context, id gift.ClaimID) (ledger.ClaimStanding, error)
	// Lags is ledger.Outcomes': how far each node's log has been taken in.
	Lags(ctx context.Context) ([]ledger.Lag, error)
	// Nodes is ledger.Registry's.
	Nodes(ctx context.Context) (nodes []ledger.Node, now time.Time, err error)
	// UserClaims is ledger.Claims'.
	UserClaims(ctx context.Context, user string, before ledger.Cursor, limit int) (claims []ledger.ClaimRow, asOf time.Time, next ledger.Cursor, err error)
}

const (
	// readWithin is how long a read may take in the ledger.
	readWithin = 2 * time.Second
	// patient is how long claims wait for what other nodes know, all claims of one
	// request together.
	patient = 250 * time.Millisecond
	// busyFor is how long they wait for requests that are making the same claims. One
	// on a node that died may not end before that node is back.
	busyFor = 2 * time.Second
	// restFor is how long a ledger is left alone that has just failed.
	restFor = 500 * time.Millisecond
	// probeEvery is how often one that failed is asked by itself, until it answers.
	probeEvery = time.Second
	// lagsFor is how long it counts that the ledger was not far enough.
	lagsFor = time.Second
	// readers is how many reads of the ledger are under way at a time.
	readers = 16
)

// patience is how long one request's claims go on waiting. It begins with the first
// wait. Safe for concurrent use.
type patience struct {
	turn sync.Mutex // of the claim that asks the ledger: a request takes one slot of it

	mu    sync.Mutex // guards the next fields
	until time.Time  // for what other nodes know
	busy  time.Time  // for other requests
}

// wait waits until it is worth asking the guard again.
func (p *patience) wait(ctx context.Context, busy <-chan struct{}) error {
	timer := time.NewTimer(time.Until(p.first(&p.busy, busyFor)))
	defer timer.Stop()
	select {
	case <-busy:
		return nil
	case <-timer.C:
		return &gift.Error{Code: gift.Unavailable, Detail: "another request is making this claim, and its node has not said what came of it; come again", RetryAfter: soon()}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bound gives a context that ends with the patience.
func (p *patience) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, p.first(&p.until, patient))
}

// first sets one of the times where this is the first wait for it, and gives it.
func (p *patience) first(end *time.Time, within time.Duration) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end.IsZero() {
		*end = time.Now().Add(within)
	}
	return *end
}

// errBusy: claims do not queue up for the ledger.
var errBusy = errors.New("enough reads of the ledger are under way")

// outside asks the ledger, a few calls at a time, and leaves it alone for a moment
// after it has failed: neither a slow nor a dead one gathers requests. Safe for
// concurrent use.
type outside struct {
	ledger Elsewhere
	slots  chan struct{}
	failed chan struct{} // has one when a call has failed
	told   *notice.Changing

	mu    sync.Mutex // guards the next fields
	err   error      // how the last call failed; nil where it did not
	until time.Time  // it is left alone
	lags  []ledger.Lag
	read  time.Time // when lags were
}

func newOutside(l Elsewhere, logger *slog.Logger) *outside {
	if l == nil {
		return nil
	}
	return &outside{ledger: l, slots: make(chan struct{}, readers), failed: make(chan struct{}, 1), told: notice.NewChanging(logger)}
}

// run asks a ledger that has failed until it answers, whether anybody needs it or not, so
// that trouble is over when it is. It ends with ctx.
func (o *outside) run(ctx context.Context) {
	for {
		select {
		case <-o.failed:
		case <-ctx.Done():
			return
		}
		for o.trouble() != nil {
			select {
			case <-time.After(probeEvery):
			case <-ctx.Done():
				return
			}
			// No claim has this id; that it is not found is an answer.
			_, _ = o.claim(ctx, gift.ClaimID{}, nil)
		}
	}
}

// claim gives what the ledger knows of a claim; with p it is asked on the claim
// path, where nobody waits for long.
func (o *outside) claim(ctx context.Context, id gift.ClaimID, p *patience) (s ledger.ClaimStanding, err error) {
	err = o.ask(ctx, p, func(ctx context.Context) error {
		s, err = o.ledger.Claim(ctx, id)
		return err
	})
	return s, err
}

// lacks reports whether the ledger has taken in what the claim's record at a place of
// another node's log should be in. Where it does not know the claim when it is asked
// after this, no log has it. A node that is not registered, or is retired, has nothing
// more to come.
func (o *outside) lacks(ctx context.Context, at Recorded, p *patience) bool {
	listed := func(lags []ledger.Lag) int {
		return slices.IndexFunc(lags, func(l ledger.Lag) bool { return l.Node == at.Node })
	}
	o.mu.Lock()
	lags, fresh := o.lags, time.Since(o.read) < lagsFor
	o.mu.Unlock()
	if i := listed(lags); fresh && i >= 0 && lags[i].Position <= at.At {
		return false
	}
	err := o.ask(ctx, p, func(ctx context.Context) (err error) {
		lags, err = o.ledger.Lags(ctx)
		return err
	})
	if err != nil {
		return false
	}
	o.mu.Lock()
	o.lags, o.read = lags, time.Now()
	o.mu.Unlock()
	if i := listed(lags); i >= 0 {
		return lags[i].Position > at.At
	}
	var nodes []ledger.Node
	err = o.ask(ctx, p, func(ctx context.Context) (err error) {
		nodes, _, err = o.ledger.Nodes(ctx)
		return err
	})
	i := slices.IndexFunc(nodes, func(n ledger.Node) bool { return n.Name == at.Node })
	switch {
	case err != nil:
		return false
	case i < 0 || nodes[i].State == ledger.NodeRetired:
		return true
	}
	// Of one that has left everything was taken in; it may be up again, and not have
	// said so.
	return nodes[i].State == ledger.NodeLeft && nodes[i].LogEnd > at.At
}

func (o *outside) order(ctx context.Context, id gift.OrderID) (row ledger.OrderRow, err error) {
	err = o.ask(ctx, nil, func(ctx context.Context) error {
		row, err = o.ledger.Order(ctx, id)
		return err
	})
	return row, err
}

// userClaims gives the newest claims of a user.
func (o *outside) userClaims(ctx context.Context, user string) (rows []ledger.ClaimRow, asOf time.Time, err error) {
	err = o.ask(ctx, nil, func(ctx context.Context) error {
		rows, asOf, _, err = o.ledger.UserClaims(ctx, user, ledger.Cursor{}, ledger.MaxPage)
		return err
	})
	return rows, asOf, err
}

// ask makes a call. Its error is ledger.ErrNotFound, or says that the ledger does
// not answer.
func (o *outside) ask(ctx context.Context, p *patience, call func(ctx context.Context) error) error {
	if p != nil {
		p.turn.Lock()
		defer p.turn.Unlock()
	}
	if err := o.resting(); err != nil {
		return err
	}
	bounded, cancel := o.bound(ctx, p)
	defer cancel()
	if err := o.enter(bounded, p != nil); err != nil {
		return err
	}
	defer func() { <-o.slots }()
	began := time.Now()
	err := call(bounded)
	switch {
	case err == nil || errors.Is(err, ledger.ErrNotFound):
		o.note(nil)
	case ctx.Err() != nil || bounded.Err() != nil && time.Since(began) < patient/2:
		// The caller has gone, or had hardly any patience left: that says nothing.
	default:
		o.note(err)
	}
	return err
}

// bound is for how long a call may last.
func (o *outside) bound(ctx context.Context, p *patience) (context.Context, context.CancelFunc) {
	if p != nil {
		return p.bound(ctx)
	}
	return context.WithTimeout(ctx, readWithin)
}

// enter takes a slot; on the claim path nobody waits for one.
func (o *outside) enter(ctx context.Context, claims bool) error {
	if claims {
		select {
		case o.slots <- struct{}{}:
			return nil
		default:
			return errBusy
		}
	}
	select {
	case o.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

// resting gives the last failure while the ledger is left alone.
func (o *outside) resting() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().Before(o.until) {
		return o.err
	}
	return nil
}

// note remembers how a call went, and tells when that changes.
func (o *outside) note(err error) {
	o.mu.Lock() // until it is told: of two changes the later one is told later
	defer o.mu.Unlock()
	before := o.err
	o.err = err
	if err != nil {
		o.until = time.Now().Add(restFor)
	}
	switch {
	case err != nil && before == nil:
		o.told.Tell(slog.LevelError, "the ledger does not answer: claims go on, and what this node's log does not have cannot be read here", "err", err)
		select {
		case o.failed <- struct{}{}:
		default:
		}
	case err == nil && before != nil:
		o.told.Tell(slog.LevelInfo, "the ledger answers again", "was", before)
	}
}

// trouble is why the ledger does not answer, nil where it does.
func (o *outside) trouble() error {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
