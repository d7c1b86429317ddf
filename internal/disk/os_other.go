//go:build darwin || freebsd || dragonfly

package disk

// Sync implements File. It syncs the whole inode, and on macOS, where fsync(2)
// stops at the drive's cache, it asks the drive as well.
func (f *osFile) Sync() error { return nameFull(f.File.Sync()) }

// Allocate implements File by writing zeros. On a file system that does not
// overwrite in place they reserve nothing; these systems have no call that does.
//
// Until it returns, the room above the file's size is Allocate's own; writes and
// syncs below that may go on. An error other than ErrFull is to be taken like a
// failed Sync: it may have been the write-back of earlier bytes that failed.
func (f *osFile) Allocate(size int64) error {
	old, err := f.Size()
	if err != nil {
		return err
	}
	if err := f.writeZeros(old, size); err != nil {
		return f.cutBack(old, err)
	}
	return nil
}
