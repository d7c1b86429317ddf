package fallbacklog

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"

	"manna/internal/disk"
)

// verifyNewest reads the newest sealed segments through, up to VerifyBytes, and
// returns the others.
func (l *Log) verifyNewest(segs []sealedSegment) (unread []sealedSegment, err error) {
	var bytes int64
	for i := len(segs) - 1; i >= 0; i-- {
		if bytes += segs[i].size; bytes > l.opts.VerifyBytes {
			return segs[:i+1], nil
		}
		if err := verifyFrames(l.disk, l.opts.Dir, &segs[i]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// verifyRest reads the segments that Open left, newest first. Damage poisons the
// log: nobody may go on as if it were whole.
func (l *Log) verifyRest(segs []sealedSegment) {
	defer l.behind.Done()
	for i := len(segs) - 1; i >= 0; i-- {
		select {
		case <-l.closing:
			return
		default:
		}
		if l.poisonedBy(verifyFrames(l.disk, l.opts.Dir, &segs[i])) {
			return
		}
	}
}

func verifyFrames(d disk.Disk, dir string, seg *sealedSegment) error {
	path := segmentPath(dir, seg.number)
	b, err := readWhole(d, path)
	if err != nil {
		return err
	}
	w, err := walk(b, seg.seed, nil)
	if err == nil && !w.sealed {
		return &CorruptError{Path: path, Offset: w.bad, Why: w.why}
	}
	return err
}

// Verdict is what Verify found in one segment.
type Verdict struct {
	SegmentInfo
	Damage []string `json:"damage,omitempty"` // empty where everything validates
}

// Verify reads every byte of a log: frames, records, footers, the hash chain, and
// indexes against the records they index. It needs no lock; the tail of a live
// log that is being written shows as an active segment. report is called once
// for each segment, oldest first. sound is false where anything is damaged, or the
// log ends before reached.
func Verify(d disk.Disk, dir string, reached Reached, report func(Verdict) error) (sound bool, err error) {
	// Asked first: a live log may seal more segments any time.
	newest, err := newestIndex(d, dir)
	if err != nil {
		return false, err
	}
	infos, err := Segments(d, dir)
	if err != nil {
		return false, err
	}
	sound = true
	var before *SegmentInfo
	for i := range infos {
		info := &infos[i]
		v := Verdict{SegmentInfo: *info}
		damage, index := verifySegment(d, dir, info, i == len(infos)-1)
		switch {
		case before == nil && info.Number != firstSegment:
			damage = append(damage, missing(dir, firstSegment))
		case before == nil:
		case info.Number != before.Number+1:
			damage = append(damage, missing(dir, before.Number+1))
		case before.Sealed && info.version != 0 && info.chain != before.link:
			damage = append(damage, &CorruptError{Path: info.Path, Offset: chainAt, Why: "the segment does not follow the one before: their hashes differ"})
		}
		if index != nil {
			damage = append(damage, index)
		}
		if i == len(infos)-1 && !info.Sealed && len(damage) == 0 && reached.At > At(info.Number, uint32(info.end)) && reached.segment() <= info.Number {
			damage = append(damage, &CorruptError{Path: info.Path, Offset: info.end, Why: reached.short()})
		}
		for _, err := range damage {
			v.Damage = append(v.Damage, err.Error())
		}
		before, sound = info, sound && len(damage) == 0
		if err := report(v); err != nil {
			return false, err
		}
	}
	if last, want := len(infos)-1, max(newest, reached.segment()); want > 0 && (last < 0 || want > infos[last].Number) {
		err := missing(dir, want)
		if want > newest {
			err.Why += ": " + reached.short()
		}
		return false, report(Verdict{SegmentInfo: SegmentInfo{Number: newest, Path: err.Path}, Damage: []string{err.Error()}})
	}
	return sound, nil
}

// verifySegment reads a segment and its index through. damage is of the segment
// itself, index of its index.
func verifySegment(d disk.Disk, dir string, info *SegmentInfo, last bool) (damage []error, index error) {
	if info.damage != nil {
		return []error{info.damage}, nil
	}
	found := func(offset int64, why string) {
		damage = append(damage, &CorruptError{Path: info.Path, Offset: offset, Why: why})
	}
	// Asked before the segment is read: a live log may seal it any time.
	sealedOnce := info.Sealed || indexed(d, dir, info.Number)
	b, err := readWhole(d, info.Path)
	if err == nil && last && !info.Sealed {
		b, err = settled(d, info.Path, b, info.seed)
	}
	if err != nil {
		return []error{err}, nil
	}
	var seg sealedSegment
	var rows []Row
	names := newNames()
	w, err := records(info.Path, b, info.Number, info.seed, func(rec *Record) error {
		rows = rowsOf(rows, rec, names)
		return seg.count(rec)
	})
	info.end = w.end
	switch {
	case err != nil:
		return append(damage, err), nil
	case !w.sealed:
		if !last || sealedOnce || confirmed(b, w.bad, info.seed) {
			found(w.bad, w.why)
		}
		return damage, nil
	}
	if sha256.Sum256(b[:w.end]) != w.footer.hash {
		found(w.end, "the content's hash is not the one in the footer")
	}
	if seg.counts != w.footer.counts {
		found(w.end, "the footer counts other records than there are")
	}
	sealed := sealedSegment{header: info.header, footer: w.footer, size: int64(len(b))}
	return damage, verifyIndex(d, dir, &sealed, rows, names)
}

// verifyIndex compares an index with the rows that its segment's records make. One
// that is missing, or was made for another content, is rebuilt by the next Open.
func verifyIndex(d disk.Disk, dir string, seg *sealedSegment, rows []Row, names *Names) error {
	x, err := openIndex(d, dir, seg, &files{most: 1})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStaleIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	defer x.close()
	if !slices.Equal(x.names.list, names.list) || x.rows != int64(len(rows)) {
		return &CorruptError{Path: x.path, Why: "the index does not agree with its segment"}
	}
	rows = sortedRows(rows)
	for r, err := range x.All() {
		if err != nil {
			return err
		}
		if len(rows) == 0 || r != rows[0] {
			return &CorruptError{Path: x.path, Why: "the index does not agree with the record at " + r.At.String()}
		}
		rows = rows[1:]
	}
	if len(rows) > 0 {
		return &CorruptError{Path: x.path, Why: "the index lacks the record at " + rows[0].At.String()}
	}
	return nil
}
