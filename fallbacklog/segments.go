package fallbacklog

import (
	"context"
	"slices"
	"sync"
)

// segment is a segment as look-ups and readers see it: with a live index until
// it is sealed and indexed. It does not change.
type segment struct {
	sealedSegment // the footer is set once the segment is indexed
	file          *file
	live          *live
	index         *Index
}

// find appends the rows of an id before end, which everything in an index is.
func (s *segment) find(rows []Row, id [16]byte, end Position) ([]Row, error) {
	if s.index != nil {
		return s.index.find(rows, id)
	}
	return s.live.find(rows, id, end), nil
}

// segments lists all segments of the log, oldest first; the last one is active.
// A list that has been handed out is never changed.
type segments struct {
	mu      sync.Mutex
	all     []*segment
	indexed chan struct{} // closed and replaced when a segment gets its index
}

func (s *segments) add(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all[:len(s.all):len(s.all)], seg)
}

func (s *segments) list() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// get finds a segment by number: numbers are consecutive.
func (s *segments) get(n uint32) (*segment, bool) {
	all := s.list()
	if len(all) == 0 || n < all[0].number || n > all[len(all)-1].number {
		return nil, false
	}
	return all[n-all[0].number], true
}

// setIndex puts a finished index in the place of the live one.
func (s *segments) setIndex(sealed sealedSegment, x *Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append([]*segment(nil), s.all...)
	i := sealed.number - all[0].number
	all[i] = &segment{sealedSegment: sealed, file: all[i].file, index: x}
	s.all = all
	if s.indexed != nil {
		close(s.indexed)
		s.indexed = nil
	}
}

// indexes waits until all segments but the active one are indexed.
func (s *segments) indexes(ctx context.Context, closing <-chan struct{}) ([]*Index, error) {
	for {
		s.mu.Lock()
		var indexes []*Index
		sealed := s.all[:len(s.all)-1]
		for _, seg := range sealed {
			if seg.index != nil {
				indexes = append(indexes, seg.index)
			}
		}
		if len(indexes) == len(sealed) {
			s.mu.Unlock()
			return indexes, nil
		}
		wait := s.nextIndexed()
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-closing:
			return nil, ErrClosed
		}
	}
}

// nextIndexed is closed when the next segment gets its index. Callers hold s.mu.
func (s *segments) nextIndexed() <-chan struct{} {
	if s.indexed == nil {
		s.indexed = make(chan struct{})
	}
	return s.indexed
}

// moreIndexed is closed when the next segment after the call gets its index.
func (s *segments) moreIndexed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextIndexed()
}

// sealed lists the segments that have their index, oldest first.
func (s *segments) sealed() []*segment {
	all := s.list()
	return slices.DeleteFunc(slices.Clone(all), func(s *segment) bool { return s.index == nil })
}

func (s *segments) close() {
	for _, seg := range s.list() {
		seg.file.close()
		if seg.index != nil {
			seg.index.close()
		}
	}
}
