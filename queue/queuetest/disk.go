package queuetest

import (
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// unreserved is a disk that does not reserve room. Reading through megabytes of
// reserved zeros after each crash would be most of the suite's work.
type unreserved struct{ *crashdisk.Disk }

func (d unreserved) Create(path string) (disk.File, error) {
	f, err := d.Disk.Create(path)
	if err != nil {
		return nil, err
	}
	return unreservedFile{f}, nil
}

type unreservedFile struct{ disk.File }

func (unreservedFile) Allocate(int64) error { return nil }
