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
	// Guard keeps repeats apart. Nil means one in the process, rebuilt from the
	// log.
	Guard Guard
	Users UserIndex // nil: only the claims of configured campaigns are listed
	Queue Sender    // nil: settle is unavailable
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
// no goroutines and needs no closing.
type Front struct {
	log      *fallbacklog.Log
	snapshot atomic.Pointer[Snapshot]
	auth     atomic.Pointer[Auth]
	dev      bool
	guard    Guard
	stock    *stock
	users    UserIndex
	queue    Sender
	receipts *receipts
	limits   Limits
	metrics  *metrics
	now      func() time.Time
	inFlight atomic.Int64
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
	case opts.Auth == nil && !opts.Dev:
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
		log: opts.Log, dev: opts.Dev, guard: opts.Guard, stock: newStock(), users: opts.Users, queue: opts.Queue,
		receipts: newReceipts(opts.ReceiptKey), limits: opts.Limits, now: opts.Now,
		unhandled:  notice.NewRepeated(opts.Logger, slog.LevelError, "claims cannot be handled"),
		unanswered: notice.NewRepeated(opts.Logger, slog.LevelError, "requests cannot be answered"),
		guardless:  notice.NewRepeated(opts.Logger, slog.LevelWarn, "guard is down; claims go on without it"),
		unindexed:  notice.NewRepeated(opts.Logger, slog.LevelWarn, "the ledger cannot list users' claims; claims go on"),
	}
	f.snapshot.Store(opts.Snapshot)
	f.auth.Store(opts.Auth)
	var memory *memoryGuard
	if f.guard == nil {
		memory = newMemoryGuard()
		f.guard = memory
	}
	if err := f.stock.rebuild(ctx, f.log, memory, opts.Logger); err != nil {
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

// Ready says why no claim can be accepted, nil where one can.
func (f *Front) Ready() error { return f.log.Err() }

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
