package fallbacklog

import (
	"sync"

	"manna/internal/disk"
)

// maxFiles bounds how many sealed segments are held open for reading.
const maxFiles = 64

// files keeps segments open for reading. Safe for concurrent use.
type files struct {
	open func(segment uint32) (disk.File, error)

	mu     sync.Mutex
	held   map[uint32]*heldFile
	tick   uint64
	closed bool
}

type heldFile struct {
	disk.File
	segment uint32
	users   int
	used    uint64 // tick of the last use
}

// acquire opens a segment or takes it from those held. Every file acquired is
// given back with release.
func (f *files) acquire(segment uint32) (*heldFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	h := f.held[segment]
	if h == nil {
		file, err := f.open(segment)
		if err != nil {
			return nil, err
		}
		if f.held == nil {
			f.held = make(map[uint32]*heldFile)
		}
		h = &heldFile{File: file, segment: segment}
		f.held[segment] = h
	}
	f.tick++
	h.users++
	h.used = f.tick
	f.evict()
	return h, nil
}

func (f *files) release(h *heldFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h.users--
	f.evict()
}

// evict closes files nobody reads while more are held than may be: the one that
// was used longest ago first, and after close all of them.
func (f *files) evict() {
	for f.closed && len(f.held) > 0 || len(f.held) > maxFiles {
		var oldest *heldFile
		for _, h := range f.held {
			if h.users == 0 && (oldest == nil || h.used < oldest.used) {
				oldest = h
			}
		}
		if oldest == nil {
			return
		}
		oldest.Close()
		delete(f.held, oldest.segment)
	}
}

// close lets all files go that nobody reads; the others go as they are released.
func (f *files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.evict()
}
