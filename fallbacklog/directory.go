package fallbacklog

import (
	"errors"
	"iter"
	"time"

	"manna/internal/disk"
)

// SegmentInfo describes a segment of a log, live or not.
type SegmentInfo struct {
	header
	footer
	Number  uint32           `json:"segment"`
	Path    string           `json:"path"`
	Node    string           `json:"node"`
	Created time.Time        `json:"created"`
	Bytes   int64            `json:"bytes"`
	Sealed  bool             `json:"sealed"`
	Records int64            `json:"records"` // of a sealed segment
	Counts  map[string]int64 `json:"counts,omitempty"`
	First   time.Time        `json:"first,omitzero"` // time of the first record
	Last    time.Time        `json:"last,omitzero"`
	Damage  string           `json:"damage,omitempty"`

	damage error // that Damage tells
	end    int64 // after the last whole batch, once the segment has been verified
}

// Segments lists the segments of the log in dir by headers and footers alone. It
// takes no lock, so it can be used beside a running server. Damage to one
// segment is told in its SegmentInfo.
func Segments(d disk.Disk, dir string) ([]SegmentInfo, error) {
	numbers, err := segmentNumbers(d, dir)
	if err != nil {
		return nil, err
	}
	var infos []SegmentInfo
	for _, n := range numbers {
		path := segmentPath(dir, n)
		f, err := d.OpenRead(path)
		if err != nil {
			return nil, err
		}
		seg, sealed, err := readSealed(f, path, n)
		info := SegmentInfo{header: seg.header, Number: n, Path: path, Node: seg.node, Created: seg.created, Sealed: sealed}
		info.Bytes, _ = f.Size()
		f.Close()
		if err != nil {
			info.damage, info.Damage = err, err.Error()
		}
		if sealed {
			info.footer = seg.footer
			info.Records = seg.records()
			if info.Records > 0 {
				info.First, info.Last = time.Unix(0, seg.first).UTC(), time.Unix(0, seg.last).UTC()
			}
			info.Counts = make(map[string]int64)
			for k := Claimed; k <= Lost; k++ {
				if c := seg.counts[k]; c > 0 {
					info.Counts[k.String()] = int64(c)
				}
			}
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Records streams the records of the log in dir, oldest first, without a lock.
// It ends at the last commit that is visible; damage before it is the error that
// ends the stream. Memory is bounded by one segment.
func Records(d disk.Disk, dir string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		infos, err := Segments(d, dir)
		if err != nil {
			yield(nil, err)
			return
		}
		for i := range infos {
			err := eachDurable(d, &infos[i], i == len(infos)-1, func(rec *Record) error {
				if !yield(rec, nil) {
					return errStopped
				}
				return nil
			})
			if err == errStopped {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// eachDurable visits the records of a segment that the log's owner may be writing
// to if it is the last.
func eachDurable(d disk.Disk, info *SegmentInfo, last bool, visit func(*Record) error) error {
	if info.damage != nil {
		return info.damage
	}
	b, err := readWhole(d, info.Path)
	if err != nil {
		return err
	}
	if last && !info.Sealed {
		if b, err = settled(d, info.Path, b, info.seed); err != nil {
			return err
		}
	}
	w, err := records(info.Path, b, info.Number, info.seed, visit)
	if err == nil && !w.sealed && (!last || confirmed(b, w.bad, info.seed)) {
		err = &CorruptError{Path: info.Path, Offset: w.bad, Why: w.why}
	}
	return err
}

// settled takes a segment that was read while its owner may have been writing:
// bytes that were read early can miss what was written before bytes that were
// read later, which then seem to prove damage. It reads such a place again until
// that brings nothing more.
func settled(d disk.Disk, path string, b []byte, seed uint32) ([]byte, error) {
	for before := int64(-1); ; {
		w, err := walk(b, seed, nil)
		if err != nil || w.sealed || w.bad == before || !confirmed(b, w.bad, seed) {
			return b, err
		}
		before = w.bad
		again, err := readWhole(d, path)
		if err != nil {
			return nil, err
		}
		// No further than before, where everything proven has been written by now.
		b = again[:min(len(again), len(b))]
	}
}

var errStopped = errors.New("stopped by the caller")
