package fallbacklog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"

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
// for each segment, oldest first. sound is false where anything is damaged.
func Verify(d disk.Disk, dir string, report func(Verdict) error) (sound bool, err error) {
	infos, err := Segments(d, dir)
	if err != nil {
		return false, err
	}
	sound = true
	var chain [32]byte
	for i, info := range infos {
		v := Verdict{SegmentInfo: info}
		if info.Damage == "" {
			v.Damage = verifySegment(d, dir, &info, i > 0, chain, i == len(infos)-1)
		} else {
			v.Damage = []string{info.Damage}
		}
		if i > 0 && info.Number != infos[i-1].Number+1 {
			v.Damage = append(v.Damage, (&CorruptError{Path: segmentPath(dir, infos[i-1].Number+1), Why: "the segment is missing"}).Error())
		}
		chain = info.hash
		sound = sound && len(v.Damage) == 0
		if err := report(v); err != nil {
			return false, err
		}
	}
	return sound, nil
}

func verifySegment(d disk.Disk, dir string, info *SegmentInfo, follows bool, chain [32]byte, last bool) (damage []string) {
	path := segmentPath(dir, info.Number)
	found := func(offset int64, why string) {
		damage = append(damage, (&CorruptError{Path: path, Offset: offset, Why: why}).Error())
	}
	b, err := readWhole(d, path)
	if err != nil {
		return []string{err.Error()}
	}
	if follows && info.chain != chain {
		found(28, "the segment does not follow the one before: their hashes differ")
	}
	var seg sealedSegment
	var rows []Row
	names := newNames()
	w, err := records(path, b, info.Number, info.seed, func(rec *Record) error {
		rows = rowsOf(rows, rec, names)
		return seg.count(rec)
	})
	switch {
	case err != nil:
		return append(damage, err.Error())
	case !w.sealed:
		if !last || info.Sealed || confirmed(b, w.bad, info.seed) {
			found(w.bad, w.why)
		}
		return damage
	}
	if sha256.Sum256(b[:w.end]) != w.footer.hash {
		found(w.end, "the content's hash is not the one in the footer")
	}
	if seg.counts != w.footer.counts {
		found(w.end, "the footer counts other records than there are")
	}
	info.footer = w.footer
	sealed := sealedSegment{header: info.header, footer: w.footer, size: int64(len(b))}
	if why := verifyIndex(d, dir, &sealed, rows); why != nil {
		damage = append(damage, why.Error())
	}
	return damage
}

func verifyIndex(d disk.Disk, dir string, seg *sealedSegment, rows []Row) error {
	x, err := openIndex(d, dir, seg)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStaleIndex) {
		return nil // it is rebuilt by the next Open
	}
	if err != nil {
		return err
	}
	defer x.close()
	byID := make(map[Position]int, len(rows))
	for _, r := range rows {
		byID[r.At]++
	}
	var before Row
	var n int64
	for r, err := range x.All() {
		if err != nil {
			return err
		}
		if n++; n > 1 && bytes.Compare(before.ID[:], r.ID[:]) > 0 {
			return &CorruptError{Path: x.path, Why: "the index is not sorted"}
		}
		byID[r.At]--
		before = r
	}
	for at, left := range byID {
		if left != 0 {
			return &CorruptError{Path: x.path, Why: "the index does not agree with the record at " + at.String()}
		}
	}
	return nil
}
