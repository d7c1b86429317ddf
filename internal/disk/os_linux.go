package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Sync implements File with fdatasync(2).
func (f *osFile) Sync() error { return f.call("sync", unix.Fdatasync) }

// Allocate implements File. fallocate(2) takes the room in one step, all of it or
// none; then the new room is written full of zeros and synced, and this is for
// speed: fallocate leaves extents marked as unwritten, so that the first sync
// after each write into them commits the mark's removal to the file system's
// journal before it can return. Over zeros that are on the disk already, a sync
// is the data alone. Measured with writes of 32 KiB that is clearly faster, and
// its price is paid here, where no one need be waiting for an answer.
//
// Where a file system does not overwrite in place, zeros would be the harm: they
// use the reservation up and the next write asks for room anew. There the room
// stays as fallocate made it. Where there is no fallocate, zeros are all there is.
//
// Until it returns, the room above the file's size is Allocate's own; writes and
// syncs below that may go on. An error other than ErrFull is to be taken like a
// failed Sync: it may have been the write-back of earlier bytes that failed.
func (f *osFile) Allocate(size int64) error {
	if size == 0 {
		return nil
	}
	old, err := f.Size()
	if err != nil {
		return err
	}
	err = f.call("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		err = f.writeZeros(old, size)
	case err == nil && f.overwritesInPlace():
		err = f.writeZeros(old, size)
	}
	if err != nil {
		return f.cutBack(old, err)
	}
	return nil
}

// overwritesInPlace tells whether f's file system is known to write new bytes
// over old ones where they lie.
func (f *osFile) overwritesInPlace() bool {
	var st unix.Statfs_t
	err := f.call("statfs", func(fd int) error { return unix.Fstatfs(fd, &st) })
	if err != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		return true
	}
	return false
}
