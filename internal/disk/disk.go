package disk

import (
	"errors"
	"io"
	"io/fs"
)

var (
	// ErrFull: there is no room; nothing that was synced before is affected.
	// It wraps the system's own error (ENOSPC, EDQUOT).
	ErrFull = errors.New("disk is full")
	// ErrLocked: another process holds the lock. The error's text names its
	// process id where that can be known.
	ErrLocked = errors.New("locked by another process")
)

// Disk is a file system. Paths are the operating system's. All methods are safe
// for concurrent use.
type Disk interface {
	// Create makes a new file for reading and writing; it fails with
	// fs.ErrExist where the name is taken.
	Create(path string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(path string) (File, error)
	// OpenRead opens an existing file for reading.
	OpenRead(path string) (File, error)
	// Rename moves a file over another in one step.
	Rename(from, to string) error
	Remove(path string) error
	// List gives the names in a directory, sorted.
	List(dir string) ([]string, error)
	Stat(path string) (fs.FileInfo, error)
	// MkdirAll makes a directory and its parents (mode 0700) and syncs the
	// parents' entries.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes the exclusive advisory lock on path, creating the file where it
	// is missing, without waiting. It fails with ErrLocked. The lock ends with
	// Close or with the process.
	Lock(path string) (io.Closer, error)
	// Free gives the bytes that may still be written under dir.
	Free(dir string) (int64, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	// WriteAt fails with ErrFull where there is no room; part of p may have been
	// written then.
	io.WriterAt
	// Sync makes everything written to the file before the call durable, and its
	// size where that is needed to read it back (fdatasync).
	Sync() error
	// Allocate reserves room for the file up to size, so that a later WriteAt
	// below it neither meets a full disk nor changes the file's size. The new
	// room reads as zeros. It fails with ErrFull and reserves nothing then.
	Allocate(size int64) error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}
