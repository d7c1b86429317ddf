package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"manna/ledger"
)

// What PostgreSQL says of a table that is not there.
const undefinedTable = "42P01"

// lookAtServer is what Check tries first, as its errors name it.
const lookAtServer = "look at the server"

// Check sees whether a ledger could be opened with these options and written to, and
// changes nothing. It returns what it found: the server's address and version, and
// the schema's. The error is what Open's, or that of a call after it, would be.
func Check(ctx context.Context, opts Options) (found string, err error) {
	opts.Connections, opts.Logger = 1, slog.New(slog.DiscardHandler)
	l, err := connect(ctx, opts)
	if err != nil {
		return "", err
	}
	defer l.Close()
	if err := strange(ctx, &l.pool.Config().ConnConfig.Config, l.opts.Timeout/5); err != nil {
		return "", l.explain(lookAtServer, fmt.Errorf("%w: %w", ledger.ErrUnavailable, err))
	}
	bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	var server, encoding, database string
	var there, may, fixed, standby bool
	err = l.pool.QueryRow(bounded, `SELECT current_setting('server_version'), current_setting('server_encoding'), current_database(),
		EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1), has_database_privilege(current_database(), 'CREATE'),
		current_setting('transaction_read_only') = 'on', pg_is_in_recovery()`, l.opts.Schema).Scan(&server, &encoding, &database, &there, &may, &fixed, &standby)
	if errors.Is(err, context.DeadlineExceeded) && bounded.Err() != nil {
		err = silent(err, l.opts.Timeout)
	}
	if err != nil {
		return "", l.explain(lookAtServer, err)
	}
	found = fmt.Sprintf("PostgreSQL %s at %s", server, l.addr)
	switch {
	case encoding != encodingUTF8:
		return found, wrongEncoding(encoding)
	case standby:
		return found, fmt.Errorf("PostgreSQL at %s: it is a standby, on which nothing can be written: name the primary in ledger: {dsn}", l.addr)
	case fixed:
		return found, fmt.Errorf("PostgreSQL at %s: it is read-only: %s", l.addr, remedyReadOnly)
	case !there && !may:
		return found, fmt.Errorf("%s has no schema %s, and this user may not create it: GRANT CREATE ON DATABASE %s TO %s, or have it created",
			l.addr, l.opts.Schema, quoted(database), quoted(l.user()))
	case !there:
		return found + ", schema " + l.opts.Schema + " will be created", nil
	}
	at, known, err := l.versions(ctx)
	switch {
	case err != nil:
		return found, l.explain("read the schema's version", err)
	case at > known:
		err = l.newer(at, known)
	default:
		err = l.explain("see what it may do", l.lacking(ctx, at, known))
	}
	if at == 0 {
		return found + ", schema " + l.opts.Schema + " is empty", err
	}
	return fmt.Sprintf("%s, schema %s at version %d of %d", found, l.opts.Schema, at, known), err
}

// Clock asks for the server's time: what its clock said at some moment from began to
// ended.
func Clock(ctx context.Context, opts Options) (began, ended, theirs time.Time, err error) {
	opts.Connections, opts.Logger = 1, slog.New(slog.DiscardHandler)
	l, err := connect(ctx, opts)
	if err != nil {
		return began, ended, theirs, err
	}
	defer l.Close()
	bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	for range 2 { // the first connects
		began = time.Now()
		theirs, err = l.now(bounded, l.pool)
		ended = time.Now()
	}
	return began, ended, theirs, l.explain("ask for the time", err)
}

// versions reads at which version the schema is, 0 where it is not there or empty,
// and which one this program knows.
func (l *Ledger) versions(ctx context.Context) (at, known int64, err error) {
	if known, err = newest(); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	err = l.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+pgx.Identifier{l.opts.Schema, versions}.Sanitize()).Scan(&at)
	switch refusal, ok := errors.AsType[*pgconn.PgError](err); {
	case ok && refusal.Code == undefinedTable:
		return 0, known, nil
	case ok && refusal.Code == noPrivilege:
		// Of a schema that this user may not use the refusal is the same, empty or not,
		// and the remedy is another.
		if r, failed := l.rights(ctx); failed == nil && !r.usage {
			err = l.noUsage(r)
		}
	}
	return at, known, err
}

// newest is the version of the last migration that this program has.
func newest() (version int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	for _, file := range files {
		number, _, _ := strings.Cut(strings.TrimPrefix(file, "migrations/"), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", file, err)
		}
		version = max(version, n)
	}
	return version, err
}

// newer refuses a schema of a later release.
func (l *Ledger) newer(at, known int64) error {
	return fmt.Errorf("PostgreSQL at %s, schema %s: it is at version %d and this program knows %d: %w; run the newer release, or name another schema",
		l.addr, l.opts.Schema, at, known, ledger.ErrNewer)
}
