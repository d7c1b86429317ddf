package fallbacklog

import (
	"errors"
	"io/fs"
	"time"

	"manna/internal/disk"
)

// sealing is a segment on its way to its index.
type sealing struct {
	seg  sealedSegment
	live *live
}

// indexRetry is the pause after an index could not be written.
const indexRetry = time.Second

// index writes the indexes of segments as they are sealed. It ends when the log
// is closed; an index that is still missing then is rebuilt by Open.
func (l *Log) index() {
	defer l.behind.Done()
	for s := range l.sealed {
		for {
			rows, names := s.live.sorted()
			x, err := l.makeIndex(&s.seg, rows, names)
			if err == nil {
				l.segments.setIndex(s.seg, x)
				break
			}
			l.opts.Logger.Error("cannot write the index of a segment; trying again", "segment", s.seg.number, "err", err)
			select {
			case <-time.After(indexRetry):
				continue
			case <-l.closing:
			}
			break
		}
	}
}

func (l *Log) makeIndex(seg *sealedSegment, rows []Row, names *Names) (*Index, error) {
	if err := writeIndex(l.disk, l.opts.Dir, seg, rows, names); err != nil {
		return nil, err
	}
	return openIndex(l.disk, l.opts.Dir, seg, &l.indexes)
}

// loadIndexes opens the index of each segment and rebuilds those that are
// missing, damaged or of another content.
//
// The pages of the first unread ones are left to those who look into them: Open
// must not read all of a large log.
func (l *Log) loadIndexes(segs []sealedSegment, unread int) error {
	for i := range segs {
		seg := &segs[i]
		x, err := openIndex(l.disk, l.opts.Dir, seg, &l.indexes)
		if err == nil && i >= unread {
			if err = x.check(); err != nil {
				x.close()
			}
		}
		var corrupt *CorruptError
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStaleIndex) || errors.As(err, &corrupt) {
			l.opts.Logger.Info("rebuilding the index of a segment", "segment", seg.number, "why", err)
			x, err = l.rebuildIndex(seg)
		}
		if err != nil {
			return err
		}
		l.segments.add(&segment{sealedSegment: *seg, file: l.file(seg.number), index: x})
	}
	return nil
}

func (l *Log) rebuildIndex(seg *sealedSegment) (*Index, error) {
	var rows []Row
	names := newNames()
	err := eachRecord(l.disk, l.opts.Dir, seg, func(rec *Record) error {
		rows = rowsOf(rows, rec, names)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l.makeIndex(seg, sortedRows(rows), names)
}

// eachRecord reads a sealed segment through and fails where it does not validate.
func eachRecord(d disk.Disk, dir string, seg *sealedSegment, visit func(*Record) error) error {
	path := segmentPath(dir, seg.number)
	b, err := readWhole(d, path)
	if err != nil {
		return err
	}
	w, err := records(path, b, seg.number, seg.seed, visit)
	if err != nil {
		return err
	}
	if !w.sealed {
		return &CorruptError{Path: path, Offset: w.bad, Why: w.why}
	}
	return nil
}
