package fallbacklog

import (
	"slices"
	"sync"

	"manna/internal/disk"
)

// maxFiles bounds how many segments are held open for reading.
const maxFiles = 64

// files keeps some of many files open for reading: at most so many, but for those that
// are being read. Safe for concurrent use.
type files struct {
	most int

	mu   sync.Mutex // guards the next fields, and those of each file
	held []*file    // those that are open
	tick uint64
}

// file is opened when it is read, and stays open as long as its files keep it.
type file struct {
	files *files
	open  func() (disk.File, error)
	rank  uint32

	disk   disk.File // nil while it is not open
	users  int
	used   uint64 // tick of the last use
	closed bool
}

// file makes a file that is not open yet. Those of a lower rank are closed before
// those of a higher one, and among equals the one that was used longest ago.
func (f *files) file(rank uint32, open func() (disk.File, error)) *file {
	return &file{files: f, rank: rank, open: open}
}

// acquire gives the file to read, and has it stay open until release. It fails with
// ErrClosed after close.
func (f *file) acquire() (disk.File, error) {
	s := f.files
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.disk == nil {
		s.evict(1)
		opened, err := f.open()
		if err != nil {
			return nil, err
		}
		f.disk = opened
		s.held = append(s.held, f)
	}
	s.tick++
	f.users++
	f.used = s.tick
	return f.disk, nil
}

func (f *file) release() {
	s := f.files
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users == 0 && f.closed {
		s.drop(slices.Index(s.held, f))
	}
	s.evict(0)
}

// close lets the file go for good: now, or when nobody reads it any more.
func (f *file) close() error {
	s := f.files
	s.mu.Lock()
	defer s.mu.Unlock()
	f.closed = true
	if f.disk == nil || f.users > 0 {
		return nil
	}
	return s.drop(slices.Index(s.held, f))
}

// evict closes files that nobody reads until there is room for so many more.
func (s *files) evict(room int) {
	for len(s.held)+room > s.most {
		next := -1
		for i, f := range s.held {
			if f.users == 0 && (next < 0 || f.before(s.held[next])) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		s.drop(next)
	}
}

// before tells which of two files is closed first.
func (f *file) before(g *file) bool {
	return f.rank < g.rank || f.rank == g.rank && f.used < g.used
}

func (s *files) drop(i int) error {
	f := s.held[i]
	s.held = slices.Delete(s.held, i, i+1)
	err := f.disk.Close()
	f.disk = nil
	return err
}
