package crashdisk

import (
	"fmt"
	"path/filepath"
	"syscall"
)

// These reach past the counts, the faults and the capacity, for what a test has
// to arrange or to look at.

// ReadFile gives a file's whole content.
func (d *Disk) ReadFile(path string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.names.file("read", filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	data := make([]byte, n.size)
	n.readAt(data, 0)
	return data, nil
}

// WriteFile makes path a new file with this content, durable with its name. An
// open handle keeps the file that was there before. The directory must exist.
func (d *Disk) WriteFile(path string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path = filepath.Clean(path)
	if err := d.names.wantDir("write", filepath.Dir(path)); err != nil {
		return err
	}
	old := d.names.live[path]
	if isRoot(path) || old != nil && old.dir {
		return pathError("write", path, syscall.EISDIR)
	}
	n := newNode()
	n.writeAt(data, 0, sectors(int64(len(data))))
	n.sync()
	d.names.change(nameOp{add: path, node: n})
	d.names.settle(func(op nameOp) bool { return op.add == path || op.remove == path })
	d.unlinked(old)
	return nil
}

// FlipBit flips one bit (0 to 7) of a file's byte at offset, in the page cache
// and on the platter.
func (d *Disk) FlipBit(path string, offset int64, bit int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.names.file("flip", filepath.Clean(path))
	if err != nil {
		return err
	}
	if offset < 0 || offset >= n.size || bit < 0 || bit > 7 {
		return pathError("flip", path, fmt.Errorf("no bit %d at offset %d of %d", bit, offset, n.size))
	}
	flip(n.live, offset, bit)
	n.recount()
	if offset < n.platterSize {
		flip(n.platter, offset, bit)
	}
	return nil
}

func flip(data map[int64]*sector, offset int64, bit int) {
	var s sector
	if old := data[offset/sectorSize]; old != nil {
		s = *old
	}
	s[offset%sectorSize] ^= 1 << bit
	data[offset/sectorSize] = &s
}
