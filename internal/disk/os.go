//go:build linux || darwin || freebsd || dragonfly

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the real disk. Its zero value is ready, and all of them are the same
// disk. Every error is an *fs.PathError or, from Rename, an *os.LinkError; where
// the system has no room it matches both ErrFull and the system's errno.
type OS struct{}

var _ Disk = OS{}

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// Create implements Disk. The file can be read by its owner alone: what is
// written here names users and vouchers.
func (OS) Create(path string) (File, error) {
	return open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements Disk.
func (OS) Open(path string) (File, error) { return open(path, os.O_RDWR) }

// OpenRead implements Disk.
func (OS) OpenRead(path string) (File, error) { return open(path, os.O_RDONLY) }

// Rename implements Disk.
func (OS) Rename(from, to string) error { return nameFull(os.Rename(from, to)) }

// Remove implements Disk. A directory goes only when it is empty.
func (OS) Remove(path string) error { return nameFull(os.Remove(path)) }

// List implements Disk.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Stat implements Disk.
func (OS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// MkdirAll implements Disk. Each directory's name is durable before anything is
// made inside it. The name of one that was there already is made durable too: a
// process killed between making and syncing may have left it.
func (d OS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
	case err == nil:
		return d.syncFound(parent)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.MkdirAll(parent); err != nil {
		return err
	}
	// Another process may have made it since the Stat: that is what was wanted.
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nameFull(err)
	}
	return d.SyncDir(parent)
}

// syncFound syncs a directory that somebody else may own. One that may not be
// read, or that lies on a file system without directory syncs, was not left
// half-made by us.
func (d OS) syncFound(dir string) error {
	err := d.SyncDir(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// SyncDir implements Disk.
func (OS) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written through it
	return nameFull(f.Sync())
}

// Lock implements Disk with flock(2). The file holds the owner's process id as a
// decimal line; it stays behind when the lock ends, for removing it would let a
// third process lock a file that a second one still waits to read.
func (OS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, nameFull(err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	err = control(conn, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = lockedBy(f)
		}
		f.Close() // it holds nothing
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	// The id is a courtesy. On a full disk the lock holds without it, so that a
	// process can start there and make room.
	line := strconv.Itoa(os.Getpid()) + "\n"
	if _, err := f.WriteAt([]byte(line), 0); err == nil {
		_ = f.Truncate(int64(len(line)))
	}
	return f, nil
}

// lockedBy names the process that f, the lock's file, says holds it. Nothing or
// nonsense may be read while the owner is about to write.
func lockedBy(f *os.File) error {
	line := make([]byte, 32)
	n, _ := f.ReadAt(line, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		return ErrLocked
	}
	return fmt.Errorf("%w (process %d)", ErrLocked, pid)
}

// Free implements Disk: what is left to a process that is not root.
func (OS) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Statfs(dir, &st) })
	if err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// osFile keeps the connection beside the file: a call through it can never meet
// a descriptor that a concurrent Close has handed to another file.
type osFile struct {
	*os.File
	conn syscall.RawConn
}

func open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, fileMode)
	if err != nil {
		return nil, nameFull(err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, conn: conn}, nil
}

// maxWrite bounds one pwrite; some systems refuse what does not fit in 31 bits.
const maxWrite = 1 << 30

// WriteAt implements File. It says exactly how much was written when the disk
// fills up in the middle, which os.File does not.
func (f *osFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.call("write", func(fd int) error {
		for n < len(p) {
			m, err := unix.Pwrite(fd, p[n:min(len(p), n+maxWrite)], off+int64(n))
			if err != nil {
				return err
			}
			if m == 0 {
				return io.ErrShortWrite
			}
			n += m
		}
		return nil
	})
	return n, err
}

func (f *osFile) Truncate(size int64) error { return nameFull(f.File.Truncate(size)) }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// zeroStep is how much Allocate writes between two syncs, in bytes. A sync of
// another file, or of this one's head, waits behind at most this much.
const zeroStep = 1 << 20

// writeZeros writes [from, to) and syncs it.
func (f *osFile) writeZeros(from, to int64) error {
	zeros := make([]byte, max(0, min(to-from, zeroStep)))
	for from < to {
		n, err := f.WriteAt(zeros[:min(zeroStep, to-from)], from)
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// cutBack takes a failed Allocate's room back and gives its error.
func (f *osFile) cutBack(size int64, failed error) error {
	if now, err := f.Size(); err == nil && now == size {
		return failed
	}
	if err := f.Truncate(size); err != nil {
		return errors.Join(failed, err)
	}
	return failed
}

// call runs a system call on f's descriptor; its error carries op and the path.
func (f *osFile) call(op string, sys func(fd int) error) error {
	if err := control(f.conn, sys); err != nil {
		return nameFull(&fs.PathError{Op: op, Path: f.Name(), Err: err})
	}
	return nil
}

func control(conn syscall.RawConn, sys func(fd int) error) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = retry(func() error { return sys(int(fd)) })
	})
	if err != nil {
		return fs.ErrClosed // the one reason there is; its own error does not match this
	}
	return failed
}

// retry repeats a system call that a signal cut short; Go's own scheduler sends
// such signals.
func retry(sys func() error) error {
	for {
		if err := sys(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// nameFull lets an error of a full disk match ErrFull beside its errno, inside
// the error that carries the path. Others pass as they are.
func nameFull(err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || errors.Is(err, ErrFull) {
		return err
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: e.Op, Path: e.Path, Err: full(e.Err)}
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return &os.LinkError{Op: e.Op, Old: e.Old, New: e.New, Err: full(e.Err)}
	}
	return full(err)
}

func full(err error) error { return fmt.Errorf("%w (%w)", ErrFull, err) }
