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
			info.Damage = err.Error()
		}
		if sealed {
			info.footer = seg.footer
			info.Records = seg.records()
			info.First, info.Last = time.Unix(0, seg.first).UTC(), time.Unix(0, seg.last).UTC()
			info.Counts = make(map[string]int64)
			for k := Claimed; k <= Switched; k++ {
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
		for i, info := range infos {
			var w walked
			var b []byte
			if info.Damage == "" {
				b, err = readWhole(d, info.Path)
			} else {
				err = &CorruptError{Path: info.Path, Why: info.Damage}
			}
			if err == nil {
				w, err = records(info.Path, b, info.Number, info.seed, func(rec *Record) error {
					if !yield(rec, nil) {
						return errStopped
					}
					return nil
				})
			}
			if err == errStopped {
				return
			}
			if err == nil && !w.sealed && (i < len(infos)-1 || confirmed(b, w.bad, info.seed)) {
				err = &CorruptError{Path: info.Path, Offset: w.bad, Why: w.why}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

var errStopped = errors.New("stopped by the caller")
