package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"manna/ledger"
)

// Options configure a ledger. DSN and Node are required; zero values of the rest
// are replaced by the defaults named.
type Options struct {
	// DSN is a connection string of libpq, as a URL or as keywords and values.
	DSN string
	// Node is this node's name. Runs of this node that are still running when the
	// ledger is opened have crashed: there is one process for a node.
	Node string
	// Schema holds all tables and is made where it is missing. Default "manna".
	Schema string
	// Connections bound the pool; default 8, or pool_max_conns of the DSN.
	Connections int
	// Timeout bounds every call, the wait for a connection included; taking a batch
	// in may last six times that. Default 5 s.
	Timeout time.Duration
	// Later lets Open return a ledger whose server cannot be reached yet. Its calls
	// fail with ledger.ErrUnavailable until one of them gets through. So it is with a
	// schema that takes long to be migrated.
	Later  bool
	Logger *slog.Logger
	// Now is the clock of leases, beats and of entries without a time. Default is
	// the server's, which is one for all nodes.
	Now func() time.Time
}

const (
	batchFactor  = 6 // times Options.Timeout: for taking in a batch
	resetTimeout = 15 * time.Minute
	tries        = 4 // of a transaction that met a deadlock
)

// Ledger is a ledger on PostgreSQL. Its methods are safe for concurrent use.
type Ledger struct {
	opts Options
	pool *pgxpool.Pool
	addr string // host:port/database, for errors

	ready atomic.Bool
	life  context.Context // ends with Close
	end   context.CancelFunc
	owned sync.WaitGroup // goroutines that Close waits for

	mu        sync.Mutex   // guards the next field, and owned against a Close
	preparing *preparation // nil while none is under way
}

var _ ledger.Cluster = (*Ledger)(nil)

// Open connects, brings the schema up to date and ends what an earlier process of
// the node left running. Many nodes may open at once. Without Options.Later it waits
// for a migration as long as ctx lasts, else no longer than for a call. It fails with
// ledger.ErrNewer where a newer release made the schema, with
// ledger.ErrUnavailable where the server cannot be reached, and with one line that
// names the remedy where it refuses this client. No error holds the password.
func Open(ctx context.Context, opts Options) (*Ledger, error) {
	l, err := connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	err = l.await(ctx)
	if errors.Is(err, ledger.ErrUnavailable) && opts.Later && ctx.Err() == nil {
		l.opts.Logger.Error("ledger is not ready; claims are not affected, it keeps trying", "err", err)
		return l, nil
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Look connects for a person who looks or declares beside the node's process: it
// makes no schema, migrates none and ends no run. It fails with ledger.ErrNewer where
// a newer release made the schema, where it is not there, or is of an older release.
func Look(ctx context.Context, opts Options) (*Ledger, error) {
	l, err := connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	at, known, err := l.versions(ctx)
	switch where := fmt.Sprintf("PostgreSQL at %s, schema %s", l.addr, l.opts.Schema); {
	case err != nil:
		err = l.explain("read the schema's version", err)
	case at > known:
		err = l.newer(at, known)
	case at == 0:
		err = fmt.Errorf("%s: there is no ledger: check the schema's name; the first node that starts makes it", where)
	case at < known:
		err = fmt.Errorf("%s: it is at version %d and this program wants %d: start a node of this release, which migrates it, or use the release that the nodes run", where, at, known)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	l.ready.Store(true)
	return l, nil
}

// connect makes the pool. It asks nobody yet.
func connect(ctx context.Context, opts Options) (*Ledger, error) {
	if opts.DSN == "" || opts.Node == "" {
		return nil, errors.New("a ledger on PostgreSQL needs a dsn and the name of its node")
	}
	if opts.Schema == "" {
		opts.Schema = "manna"
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 5 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	config, err := configure(&opts)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("pool of connections to PostgreSQL: %w", oneLine(err))
	}
	server := config.ConnConfig
	l := &Ledger{opts: opts, pool: pool, addr: fmt.Sprintf("%s:%d/%s", server.Host, server.Port, server.Database)}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

// configure reads the DSN and sets what every connection is to have.
func configure(opts *Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(opts.DSN)
	if err != nil {
		// The error has parts of the DSN, perhaps the password among them.
		return nil, errors.New("the ledger's dsn cannot be read: it is to be like postgres://user:password@host:5432/database?sslmode=require, with special characters of the password escaped as %XX")
	}
	if opts.Connections > 0 {
		config.MaxConns = int32(opts.Connections)
	} else if !strings.Contains(opts.DSN, "pool_max_conns") {
		config.MaxConns = 8
	}
	config.ConnConfig.ConnectTimeout = opts.Timeout
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	params := config.ConnConfig.RuntimeParams
	params["search_path"] = pgx.Identifier{opts.Schema}.Sanitize()
	params["statement_timeout"] = milliseconds(opts.Timeout)
	// A plan made while a table was small would be kept while it grows by millions.
	params["plan_cache_mode"] = "force_custom_plan"
	params["jit"] = "off" // it takes longer than any of the queries
	// A client that stopped in a transaction gives its locks back.
	params["idle_in_transaction_session_timeout"] = milliseconds(2 * opts.Timeout)
	if params["application_name"] == "" {
		params["application_name"] = "manna " + opts.Node
	}
	return config, nil
}

// Ping reports whether the ledger can be read.
func (l *Ledger) Ping(ctx context.Context) error {
	return l.do(ctx, "ping", func(ctx context.Context) error {
		var n int64
		return l.pool.QueryRow(ctx, "SELECT epoch FROM schedule").Scan(&n)
	})
}

// Close waits for calls under way, each of which is bounded, and closes the
// connections. A migration is broken off; what of it was not committed is undone.
func (l *Ledger) Close() error {
	l.mu.Lock()
	l.end()
	l.mu.Unlock()
	l.owned.Wait()
	l.pool.Close()
	return nil
}

// do makes a call within the time that calls have.
func (l *Ledger) do(ctx context.Context, what string, call func(ctx context.Context) error) error {
	return l.within(ctx, l.opts.Timeout, what, call)
}

func (l *Ledger) within(ctx context.Context, limit time.Duration, what string, call func(ctx context.Context) error) error {
	if err := l.prepare(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return l.explain(what, call(bounded))
}

// writing makes a call in a transaction: all of it happens or nothing. It is
// repeated where the server broke a deadlock with it.
func (l *Ledger) writing(ctx context.Context, what string, call func(ctx context.Context, tx pgx.Tx) error) error {
	return l.do(ctx, what, func(ctx context.Context) error { return l.transact(ctx, call) })
}

func (l *Ledger) transact(ctx context.Context, call func(ctx context.Context, tx pgx.Tx) error) error {
	return repeating(func() error {
		return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return call(ctx, tx) })
	})
}

// repeating tries again what the server gave up to break a deadlock: nothing of it
// had happened.
func repeating(try func() error) (err error) {
	for range tries {
		refusal, refused := error(nil), (*pgconn.PgError)(nil)
		if refusal = try(); !errors.As(refusal, &refused) || refused.Code != deadlock && refused.Code != serialization {
			return refusal
		}
		err = refusal
	}
	return err
}

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// now reads the ledger's clock.
func (l *Ledger) now(ctx context.Context, q querier) (time.Time, error) {
	if l.opts.Now != nil {
		return l.opts.Now().UTC(), nil
	}
	var n int64
	err := q.QueryRow(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000").Scan(&n)
	return fromNanos(n), err
}

// nanos is how a time is stored; the zero time as 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// text is s as PostgreSQL can hold it: valid, and without NUL. Partners and people
// write what they like.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// each calls do for each row of a query's result.
func each(rows pgx.Rows, err error, do func(row pgx.Row) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
