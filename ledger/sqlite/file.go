package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"

	driver "modernc.org/sqlite"

	"manna/internal/disk"
	"manna/ledger"
)

// applicationID marks our files in their headers: "MANN".
const applicationID = 0x4d414e4e

// file is one database file. Its methods are safe for concurrent use.
type file struct {
	path    string
	disk    disk.Disk
	logger  *slog.Logger
	schema  []string
	sync    string // PRAGMA synchronous
	cache   int    // of the writing connection, KiB
	readers int
	// check is how damage is looked for when the file is opened; empty where
	// that would mean to read a large file.
	check string
	// afterwards says what becomes of a file that was begun anew.
	afterwards string

	mu     sync.RWMutex // held for writing while the databases are replaced
	write  *sql.DB      // one connection
	read   *sql.DB
	closed bool
	// damage is what a call has met since the file was opened: whoever reads may
	// come upon a page that nobody writes to.
	damage atomic.Pointer[error]
}

var errClosed = errors.New("ledger is closed")

// open opens the file, making it where it is missing. A damaged one is set aside
// first.
func (f *file) open(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openSound(ctx)
}

func (f *file) openSound(ctx context.Context) error {
	err := f.openOnce(ctx)
	if errors.Is(err, ledger.ErrDamaged) {
		err = f.beginAnew(ctx, err)
	}
	return err
}

// replace sets a damaged file aside and begins anew. Until that succeeds, calls
// fail with ledger.ErrDamaged.
func (f *file) replace(ctx context.Context, why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return errClosed
	case f.write == nil: // an earlier try has set it aside
		return f.openSound(ctx)
	}
	f.closeDatabases() // what they hold cannot be used
	return f.beginAnew(ctx, why)
}

func (f *file) beginAnew(ctx context.Context, why error) error {
	aside, err := f.setAside()
	if err != nil {
		return fmt.Errorf("set the damaged %s aside: %w", f.path, err)
	}
	f.logger.Error("ledger file is damaged; it was set aside and "+f.afterwards, "file", f.path, "kept_in", aside, "err", why)
	return f.openOnce(ctx)
}

// setAside renames the file, and what belongs to it, to the first free
// <name>.damaged-<n>.
func (f *file) setAside() (aside string, err error) {
	dir := filepath.Dir(f.path)
	for n := 1; ; n++ {
		aside = fmt.Sprintf("%s.damaged-%d", f.path, n)
		if _, err := f.disk.Stat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		err := f.disk.Rename(f.path+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return aside, f.disk.SyncDir(dir)
}

// patient has a call wait for one that holds a lock, in milliseconds.
const patient = "_busy_timeout=5000"

func (f *file) openOnce(ctx context.Context) error {
	f.damage.Store(nil)
	if err := f.create(); err != nil {
		return err
	}
	version, err := f.identify(ctx)
	if err != nil {
		return explain(f.path, err)
	}
	if f.write, err = f.database(patient, "_journal_mode=WAL", "_synchronous="+f.sync, fmt.Sprintf("_pragma=cache_size(-%d)", f.cache), "_txlock=immediate"); err != nil {
		return err
	}
	f.write.SetMaxOpenConns(1)
	if f.read, err = f.database(patient, "_journal_mode=WAL", "_query_only=1"); err == nil {
		f.read.SetMaxOpenConns(f.readers)
		f.read.SetMaxIdleConns(f.readers)
		err = f.migrate(ctx, version)
	}
	if err != nil {
		f.closeDatabases()
		return explain(f.path, err)
	}
	return nil
}

// create makes an empty file, which is an empty database: SQLite itself would
// make one that others may read.
func (f *file) create() error {
	h, err := f.disk.Create(f.path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(h.Close(), f.disk.SyncDir(filepath.Dir(f.path)))
}

// database makes a pool of connections; none is opened yet.
func (f *file) database(params ...string) (*sql.DB, error) {
	path, err := filepath.Abs(f.path)
	if err != nil {
		return nil, err
	}
	// One checkpoint for many batches lets pages that several of them touch be
	// written back once.
	query := "_dqs=0&_pragma=wal_autocheckpoint(8000)&_pragma=journal_size_limit(67108864)"
	for _, p := range params {
		query += "&" + p
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: query}
	connector, err := driver.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// identify gives the version of the file's schema and changes nothing in it.
func (f *file) identify(ctx context.Context) (version int, err error) {
	// A file that another program has locked is tried again by whoever opens the
	// ledger; a process that is to end does not wait for it here.
	db, err := f.database("_query_only=1", "_busy_timeout=500")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var app, tables int
	row := db.QueryRowContext(ctx, "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version, pragma_application_id")
	if err := row.Scan(&version, &app, &tables); err != nil {
		return 0, err
	}
	switch fresh := version == 0 && app == 0 && tables == 0; {
	case !fresh && app != applicationID:
		return 0, fmt.Errorf("%s: %w: it is another program's database", f.path, ledger.ErrDamaged)
	case version > len(f.schema):
		return 0, fmt.Errorf("%s: %w: its schema is %d and this one knows %d: run that release, or move the file away and it is %s",
			f.path, ledger.ErrNewer, version, len(f.schema), f.afterwards)
	}
	return version, nil
}

// migrate looks for damage and brings the schema up to this release's.
func (f *file) migrate(ctx context.Context, version int) error {
	if f.check != "" {
		var found string
		if err := f.write.QueryRowContext(ctx, f.check).Scan(&found); err != nil {
			return err
		}
		if found != "ok" {
			return fmt.Errorf("%s: %w: %s", f.path, ledger.ErrDamaged, found)
		}
	}
	for ; version < len(f.schema); version++ {
		if err := f.migrateTo(ctx, version+1); err != nil {
			return fmt.Errorf("bring the schema to version %d: %w", version+1, err)
		}
	}
	return nil
}

func (f *file) migrateTo(ctx context.Context, version int) error {
	tx, err := f.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	script := fmt.Sprintf("%s; PRAGMA user_version = %d; PRAGMA application_id = %d", f.schema[version-1], version, applicationID)
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return err
	}
	return tx.Commit()
}

// reading calls do with the databases that read.
func (f *file) reading(ctx context.Context, do func(db *sql.DB) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.usable(); err != nil {
		return err
	}
	return f.judge(do(f.read))
}

// writing calls do in a transaction that has the file to itself, and commits it
// where do returns nil.
func (f *file) writing(ctx context.Context, do func(tx *sql.Tx) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.usable(); err != nil {
		return err
	}
	tx, err := f.write.BeginTx(ctx, nil)
	if err != nil {
		return f.judge(err)
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := do(tx); err != nil {
		return f.judge(err)
	}
	// Commit point: with synchronous=FULL durable, else visible and ordered.
	return f.judge(tx.Commit())
}

// judge explains an error and remembers damage.
func (f *file) judge(err error) error {
	err = explain(f.path, err)
	if errors.Is(err, ledger.ErrDamaged) {
		f.damage.CompareAndSwap(nil, &err)
	}
	return err
}

// sound fails with ledger.ErrDamaged where any call has met damage.
func (f *file) sound() error {
	if met := f.damage.Load(); met != nil {
		return *met
	}
	return nil
}

func (f *file) usable() error {
	switch {
	case f.closed:
		return errClosed
	case f.write == nil:
		return fmt.Errorf("%s: %w and could not be begun anew", f.path, ledger.ErrDamaged)
	}
	return nil
}

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return explain(f.path, f.closeDatabases())
}

// closeDatabases closes the readers first: the last connection, the writing one,
// then folds the write-ahead log into the file.
func (f *file) closeDatabases() error {
	var errs []error
	for _, db := range []*sql.DB{f.read, f.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	f.read, f.write = nil, nil
	return errors.Join(errs...)
}
