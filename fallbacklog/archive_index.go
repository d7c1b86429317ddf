package fallbacklog

import (
	"bytes"

	"manna/internal/disk"
)

// maxIndex bounds an index in bytes: a segment's rows, fences and names.
const maxIndex = 1 << 30

// indexOf makes the index of a segment that has been read whole.
func indexOf(path string, content []byte, s *sealedSegment) ([]byte, error) {
	var rows []Row
	names := newNames()
	w, err := records(path, content, s.number, s.seed, func(rec *Record) error {
		rows = rowsOf(rows, rec, names)
		return nil
	})
	if err == nil && !w.sealed {
		err = &CorruptError{Path: path, Offset: w.bad, Why: w.why}
	}
	if err != nil {
		return nil, err
	}
	var m memory
	err = writeIndexTo(&m, s, sortedRows(rows), names)
	return m.b, err
}

// soundIndex reads an index through: whether it validates and is of this content.
func soundIndex(path string, b []byte, segment uint32, hash [32]byte) error {
	here := &files{most: 1}
	x, err := newIndex(path, here.file(segment, func() (disk.File, error) { return &memory{b: b}, nil }), segment)
	if err == nil {
		err = x.of(hash)
	}
	if err != nil {
		return err
	}
	return x.check()
}

// memory is a file in memory, as far as an index needs one.
type memory struct {
	disk.File
	b []byte
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, off) }
func (m *memory) Size() (int64, error)                    { return int64(len(m.b)), nil }
func (m *memory) Sync() error                             { return nil }
func (m *memory) Close() error                            { return nil }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if missing := off + int64(len(p)) - int64(len(m.b)); missing > 0 {
		m.b = append(m.b, make([]byte, missing)...)
	}
	return copy(m.b[off:], p), nil
}
