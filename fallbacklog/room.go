package fallbacklog

import (
	"errors"
	"io/fs"

	"manna/internal/disk"
)

// allocateStep is how much of a segment's file is reserved at a time.
const allocateStep = 4 << 20

// room is a segment's file and the part of it that is reserved. More is reserved
// in the background, for that takes as long as many commits. It is used by one
// goroutine.
type room struct {
	file  disk.File
	step  int64
	limit int64 // past it nothing is reserved ahead
	size  int64

	ahead chan error // of the allocation under way; nil where there is none
	asked int64      // its size
	full  bool       // an allocation ahead met a full disk
}

// newRoom creates a segment's file under its passing name.
func (l *Log) newRoom(n uint32) (*room, error) {
	path := segmentPath(l.opts.Dir, n) + ".next"
	// An attempt that failed may have left one behind.
	if err := l.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := l.disk.Create(path)
	if err != nil {
		return nil, err
	}
	step := min(allocateStep, l.opts.SegmentBytes)
	return &room{file: f, step: step, limit: l.opts.SegmentBytes + step/4}, nil
}

// want makes sure that size bytes are reserved. It fails with disk.ErrFull where
// there is no room; any other error leaves the file in an unknown state.
func (r *room) want(size int64) error {
	if err := r.collect(size > r.size); err != nil {
		return err
	}
	if size > r.size {
		err := r.file.Allocate(size + r.step)
		if r.full = errors.Is(err, disk.ErrFull); r.full {
			// Close to a full disk the last bytes are still of use.
			if err = r.file.Allocate(size); err == nil {
				r.size = size
			}
			return err
		}
		if err != nil {
			return err
		}
		r.size = size + r.step
	}
	return r.grow(size + r.step)
}

// grow reserves on in the background until size bytes are, one step at a time.
func (r *room) grow(size int64) error {
	if err := r.collect(false); err != nil {
		return err
	}
	if r.ahead == nil && !r.full && r.size < min(size, r.limit) {
		r.ahead, r.asked = make(chan error, 1), min(r.size+r.step, r.limit)
		go func(done chan error, size int64) { done <- r.file.Allocate(size) }(r.ahead, r.asked)
	}
	return nil
}

// collect takes the result of the allocation under way, waiting for it if wait is
// set.
func (r *room) collect(wait bool) error {
	if r.ahead == nil {
		return nil
	}
	var err error
	if wait {
		err = <-r.ahead
	} else {
		select {
		case err = <-r.ahead:
		default:
			return nil
		}
	}
	r.ahead = nil
	switch {
	case err == nil:
		r.size = r.asked
	case errors.Is(err, disk.ErrFull):
		r.full = true
	default:
		return err
	}
	return nil
}

// close waits for the allocation under way and closes the file.
func (r *room) close() error { return errors.Join(r.collect(true), r.file.Close()) }
