package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/notice"
	"manna/queue"
)

// UserIndex finds the claims of a user: the ledger.
type UserIndex interface {
	// UserClaims gives the ids of at most limit claims of the user, newest first.
	// asOf is the time up to which they are complete; zero where that is now. An
	// error means that the index cannot be asked, or knows nothing yet.
	UserClaims(ctx context.Context, user string, limit int) (ids []gift.ClaimID, asOf time.Time, err error)
}

// Sender puts messages into their lanes beside the first deliveries. It returns
// when they cannot be lost any more.
type Sender interface {
	Send(ctx context.Context, msgs ...*queue.Message) error
}

// Options configure a Front. Log, Snapshot and ReceiptKey are required, and
// either Auth or Dev.
type Options struct {
	Log      *fallbacklog.Log
	Snapshot *Snapshot
	// Auth says who calls. With Dev nobody is asked and the user comes from the
	// body: whoever sets it makes sure that the Front listens on loopback only.
	Auth *Auth
	Dev  bool
	// Unserved: the Front only reads for this process, and its handler is not used. Run
	// then only sees to that.
	Unserved bool
	// Guard keeps apart repeats that come to several nodes; Run has to run then. It is
	// asked after the node's own, which lives in the process and is rebuilt from the
	// log. Nil: there is no other node.
	Guard SharedGuard
	// Elsewhere reads what other nodes' logs say. Nil: there is no other node.
	Elsewhere Elsewhere
	// Leases shares the gifts' stock with other fronts; Run has to run then. Nil:
	// this front has all of it.
	Leases *Leases
	// Replication holds answers until the queue has their claims too; Run has to run
	// then. Nil: claims are answered when they are on this disk.
	Replication *Replication
	Users       UserIndex // nil: only the claims of configured campaigns are listed; unused with Elsewhere
	Queue       Sender    // nil: settle is unavailable
	// ReceiptKey signs receipts: 32 bytes, the same after every restart.
	ReceiptKey []byte
	Limits     Limits
	Logger     *slog.Logger
	Metrics    prometheus.Registerer
	Now        func() time.Time // default time.Now
}

// Limits bound what callers may do. Zero values are replaced by the defaults
// named.
type Limits struct {
	InFlight    int           // claims being decided or appended; default 4096
	Body        int64         // bytes of a request with one claim; default 64 KiB
	BatchBody   int64         // bytes of a batch; default 4 MiB
	Batch       int           // claims in a batch; default 1000
	SettleEvery time.Duration // between two settle requests of a claim; default 30 s
}

func (l *Limits) complete() {
	def(&l.InFlight, 4096)
	def(&l.Body, 64<<10)
	def(&l.BatchBody, 4<<20)
	def(&l.Batch, 1000)
	def(&l.SettleEvery, 30*time.Second)
}

func def[T int | int64 | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Front is the claim front-end. Its methods are safe for concurrent use. It owns
// no goroutines but those of Run, and needs no closing.
type Front struct {
	log      *fallbacklog.Log
	snapshot atomic.Pointer[Snapshot]
	auth     atomic.Pointer[Auth]
	dev      bool
	unserved bool
	guard    Guard        // local, or the layers of local and the shared one
	local    *memoryGuard // the claims of this node's log
	shared   SharedGuard  // nil on one machine
	stock    *stock
	users    UserIndex
	queue    Sender
	receipts *receipts
	// What a cluster needs; nil on one machine.
	elsewhere   *outside
	replication *replication

	limits   Limits
	metrics  *metrics
	now      func() time.Time
	inFlight atomic.Int64
	newest   newest
	// Each of these may befall every request.
	unhandled, unanswered, guardless, unindexed *notice.Repeated
	// settling serialises what is done at most once to a claim: returns and
	// settle requests.
	settling [64]sync.Mutex
}

// NewFront rebuilds the guard and the stock from the log and gives a Front that
// is ready to take claims. With a long log that takes a while; it ends with ctx's
// error when ctx does.
func NewFront(ctx context.Context, opts Options) (*Front, error) {
	switch {
	case opts.Log == nil || opts.Snapshot == nil:
		return nil, errors.New("a front needs a log and a snapshot of the campaigns")
	case len(opts.ReceiptKey) != receiptKeySize:
		return nil, fmt.Errorf("the receipt key has %d bytes, want %d", len(opts.ReceiptKey), receiptKeySize)
	case opts.Auth == nil && !opts.Dev && !opts.Unserved:
		return nil, errors.New("a front needs authentication: configure auth, or use --dev on loopback")
	}
	opts.Limits.complete()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Front{
		log: opts.Log, dev: opts.Dev, unserved: opts.Unserved, local: newMemoryGuard(), shared: opts.Guard, stock: newStock(), users: opts.Users, queue: opts.Queue,
		receipts: newReceipts(opts.ReceiptKey), limits: opts.Limits, now: opts.Now,
		unhandled:  notice.NewRepeated(opts.Logger, slog.LevelError, "claims cannot be handled"),
		unanswered: notice.NewRepeated(opts.Logger, slog.LevelError, "requests cannot be answered"),
		guardless:  notice.NewRepeated(opts.Logger, slog.LevelWarn, "the guard does not answer; claims go on without it"),
		unindexed:  notice.NewRepeated(opts.Logger, slog.LevelWarn, "the ledger cannot list users' claims; claims go on"),
	}
	f.snapshot.Store(opts.Snapshot)
	f.auth.Store(opts.Auth)
	f.elsewhere = newOutside(opts.Elsewhere, opts.Logger)
	if opts.Leases != nil {
		f.stock.lessor = newLessor(f.stock, *opts.Leases, f.snapshot.Load, f.now, opts.Logger)
	}
	if opts.Replication != nil {
		f.replication = newReplication(*opts.Replication, f.limits.InFlight/2, opts.Logger)
	}
	f.guard = f.local
	if opts.Guard != nil {
		f.guard = &layers{local: f.local, shared: opts.Guard}
	}
	if err := f.stock.rebuild(ctx, f.log, f.local, opts.Logger); err != nil {
		return nil, err
	}
	var err error
	f.metrics, err = newMetrics(f, opts.Metrics)
	return f, err
}

// Reload puts a new snapshot in the place of the one in use. Claims that are
// under way keep theirs. What was taken of each gift stays counted.
func (f *Front) Reload(s *Snapshot) { f.snapshot.Store(s) }

// ReloadAuth puts new keys and callers in the place of those in use.
func (f *Front) ReloadAuth(a *Auth) { f.auth.Store(a) }

// Newest is the position of the newest claim that was accepted since the start; zero
// where none was.
func (f *Front) Newest() fallbacklog.Position { return fallbacklog.Position(f.newest.at.Load()) }

// newest is a position that only rises.
type newest struct{ at atomic.Uint64 }

func (n *newest) raise(p fallbacklog.Position) {
	for last := n.at.Load(); uint64(p) > last && !n.at.CompareAndSwap(last, uint64(p)); last = n.at.Load() {
	}
}

// errUnleased: whoever asks a front for a gift in its first moment is told to come
// again.
var errUnleased = errors.New("the stock that nodes share has not been looked at yet")

// Ready says why no claim can be accepted, nil where one can.
func (f *Front) Ready() error {
	if f.stock.lessor != nil && !f.stock.lessor.looked.Load() {
		return errUnleased
	}
	return f.log.Err()
}

// Run does what a front does beside answering: it leases stock ahead, reminds the
// shared guard of what it has forgotten, and watches over replication, and over a ledger
// that has failed. It returns nil when ctx has ended and what is left of the leases has
// been given back, so ctx ends after the last claim has been answered. On one machine
// there is nothing to do, and it returns at once.
func (f *Front) Run(ctx context.Context) error {
	var work sync.WaitGroup
	if f.elsewhere != nil {
		work.Go(func() { f.elsewhere.run(ctx) })
	}
	if f.stock.lessor != nil {
		work.Go(func() { f.stock.lessor.run(ctx) })
	}
	if f.shared != nil && !f.unserved {
		work.Go(func() { f.shared.Remind(ctx, f.local.all()) })
	}
	if f.replication != nil && !f.unserved {
		work.Go(func() { f.replication.run(ctx) })
	}
	work.Wait()
	return nil
}

// Notes says what is worse than it should be while claims are accepted all the same.
func (f *Front) Notes() (notes []string) {
	if why := f.replication.degraded(); why != "" {
		notes = append(notes, "durability: degraded to local: "+why)
	}
	if f.stock.lessor != nil {
		if err := f.stock.lessor.trouble(); err != nil {
			notes = append(notes, "stock: no more can be leased: "+err.Error())
		}
	}
	if err := f.elsewhere.trouble(); err != nil {
		notes = append(notes, "ledger: other nodes' claims cannot be read: "+err.Error())
	}
	return notes
}

// enter admits n claims, or none where that would be more than are borne.
func (f *Front) enter(n int) error {
	now := f.inFlight.Add(int64(n))
	// A batch larger than the limit gets through when it is alone.
	if now > int64(f.limits.InFlight) && now != int64(n) {
		f.inFlight.Add(-int64(n))
		return &gift.Error{Code: gift.Overloaded, Detail: "more claims are in flight than this node bears; come again", RetryAfter: soon()}
	}
	return nil
}

func (f *Front) leave(n int) { f.inFlight.Add(-int64(n)) }
