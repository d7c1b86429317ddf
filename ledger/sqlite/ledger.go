package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"manna/internal/disk"
	"manna/ledger"
)

// Names of the files in the ledger's directory.
const (
	DerivedFile = "ledger.db"
	KeptFile    = "ledger-kept.db"
)

// Options configure a ledger. Dir and Node are required; zero values of the rest
// are replaced by the defaults named.
type Options struct {
	// Dir is made where it is missing. It belongs to the process that holds the
	// log's lock.
	Dir string
	// Node is this node's name. Runs of this node that are still running when the
	// ledger is opened have crashed: there is one process for a node.
	Node   string
	Disk   disk.Disk // default disk.OS{}; SQLite itself works on the real disk
	Logger *slog.Logger
	// Now is the clock of leases and of entries without a time; default time.Now.
	Now func() time.Time
}

// Ledger is a ledger on SQLite. Its methods are safe for concurrent use.
type Ledger struct {
	opts    Options
	derived file
	kept    file

	mu   sync.Mutex
	asOf map[string]time.Time // by node; behind Seen, ahead of the table
}

var _ ledger.Ledger = (*Ledger)(nil)

// Open opens the ledger in a directory and makes what is missing. What is damaged
// is set aside, loudly, and begun anew. It fails with ledger.ErrNewer where a
// newer release wrote the files.
func Open(ctx context.Context, opts Options) (*Ledger, error) {
	if opts.Dir == "" || opts.Node == "" {
		return nil, errors.New("a ledger needs a directory and the name of its node")
	}
	if opts.Disk == nil {
		opts.Disk = disk.OS{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Ledger{opts: opts, asOf: make(map[string]time.Time)}
	l.derived = file{
		path: filepath.Join(opts.Dir, DerivedFile), disk: opts.Disk, logger: opts.Logger,
		schema: derivedSchema(), sync: "NORMAL", cache: 32 << 10, readers: 4,
		afterwards: "rebuilt from the log",
	}
	l.kept = file{
		path: filepath.Join(opts.Dir, KeptFile), disk: opts.Disk, logger: opts.Logger,
		schema: keptSchema(), sync: "FULL", cache: 2 << 10, readers: 2, check: "PRAGMA quick_check(1)",
		afterwards: "begun anew, without past runs and audit entries",
	}
	if err := l.open(ctx); err != nil {
		return nil, unwritable(opts.Dir, errors.Join(err, l.Close()))
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context) error {
	if err := l.opts.Disk.MkdirAll(l.opts.Dir); err != nil {
		return err
	}
	if err := l.derived.open(ctx); err != nil {
		return err
	}
	if err := l.kept.open(ctx); err != nil {
		return err
	}
	err := l.loadAsOf(ctx)
	if errors.Is(err, ledger.ErrDamaged) {
		err = l.derived.replace(ctx, err)
	}
	if err != nil {
		return err
	}
	return l.endCrashed(ctx)
}

// Ping reports whether both files can be read.
func (l *Ledger) Ping(ctx context.Context) error {
	for f, query := range map[*file]string{&l.derived: "SELECT count(*) FROM followed", &l.kept: "SELECT epoch FROM schedule"} {
		err := f.reading(ctx, func(db *sql.DB) error {
			var n int64
			return db.QueryRowContext(ctx, query).Scan(&n)
		})
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	return nil
}

// Close waits for calls under way and closes the files.
func (l *Ledger) Close() error { return errors.Join(l.derived.close(), l.kept.close()) }

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

// each calls do for each row of a query's result and closes it.
func each(rows *sql.Rows, err error, do func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(); err != nil {
			return err
		}
	}
	return rows.Err()
}
