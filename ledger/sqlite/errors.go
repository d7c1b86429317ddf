package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"manna/internal/disk"
	"manna/ledger"
)

// code is SQLite's primary result code of err; 0 where it has none.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// explain names the file, and what SQLite's code means for whoever reads it.
func explain(path string, err error) error {
	switch code(err) {
	case 0:
		return err
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: %w", path, ledger.ErrDamaged, err)
	case codes.SQLITE_FULL:
		return fmt.Errorf("%s: %w (%w)", path, disk.ErrFull, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// unwritable turns what a directory that cannot be written to brings, from the
// system or from SQLite, into one line with its remedy.
func unwritable(dir string, err error) error {
	denied := errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
	switch code(err) {
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
		denied = true
	}
	if !denied {
		return err
	}
	return fmt.Errorf("cannot write the ledger in %s: make it writable for this user, or set another `data:` directory (%w)", dir, err)
}
