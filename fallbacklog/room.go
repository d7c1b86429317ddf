package fallbacklog

import (
	"errors"

	"manna/internal/disk"
)

// allocateStep is how much of a segment's file is reserved at a time.
const allocateStep = 4 << 20

// room is a segment's file and the part of it that is reserved. The next part is
// reserved while the one before is being written, for that takes as long as many
// commits. It is used by one goroutine.
type room struct {
	file  disk.File
	step  int64
	limit int64 // past it nothing is reserved ahead
	size  int64

	ahead chan error // of the allocation under way; nil where there is none
	asked int64      // its size
	full  bool       // the last allocation met a full disk
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
	if r.ahead == nil && !r.full && r.size-size < r.step && r.size < r.limit {
		r.ahead, r.asked = make(chan error, 1), r.size+r.step
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
