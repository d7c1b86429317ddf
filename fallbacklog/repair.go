package fallbacklog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"manna/internal/disk"
)

// Repaired says what Repair did to one segment.
type Repaired struct {
	Segment uint32 `json:"segment"`
	Kept    int64  `json:"kept"`  // records that validated
	Lost    int64  `json:"lost"`  // bytes that did not; -1 where the whole segment was missing
	Aside   string `json:"aside"` // the damaged file; empty where a segment was missing
}

// Repair salvages every record that validates from the damaged segments of the
// log in dir, each at the position that it had: what refers to a record still
// finds it. A missing segment is replaced by an empty one. Damaged files are set
// aside as *.damaged, never deleted. Sound segments are not touched: a repaired
// one says which hash it stands for, and how much it has lost. The next Open takes
// that in: see Loss. An end that is missing although reached tells of it is
// replaced up to there.
//
// Repair fails, before it has changed anything, where it would have to guess: a
// segment of another node, one under another's name, one of which both header
// blocks are gone. Nobody else may use the directory meanwhile: it takes the lock.
func Repair(d disk.Disk, dir string, reached Reached) (done []Repaired, err error) {
	lock, err := d.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer lock.Close()
	if err := clean(d, dir); err != nil {
		return nil, err
	}
	r := repair{disk: d, dir: dir, reached: reached}
	if err := r.survey(); err != nil {
		return nil, err
	}
	for i := range r.patients {
		repaired, err := r.treat(i)
		if err != nil {
			return done, err
		}
		if repaired != nil {
			done = append(done, *repaired)
		}
	}
	return done, nil
}

type repair struct {
	disk     disk.Disk
	dir      string
	reached  Reached
	patients []patient // consecutive by number
	link     [32]byte  // what the segment treated next has to have as its chain
}

// patient is a segment as it was found.
type patient struct {
	SegmentInfo
	missing bool
}

// survey looks at all segments and refuses what cannot be repaired.
func (r *repair) survey() error {
	infos, err := Segments(r.disk, r.dir)
	if err != nil {
		return err
	}
	newest, err := newestIndex(r.disk, r.dir)
	if err != nil {
		return err
	}
	last := max(newest, r.reached.segment())
	if len(infos) == 0 {
		if last > 0 {
			return fmt.Errorf("%s: all segments are missing: restore them from the archive", r.dir)
		}
		return nil
	}
	last = max(last, infos[len(infos)-1].Number)
	var node string
	for n, next := uint32(firstSegment), 0; n <= last; n++ {
		if next >= len(infos) || infos[next].Number != n {
			r.patients = append(r.patients, patient{SegmentInfo: SegmentInfo{Number: n, Path: segmentPath(r.dir, n)}, missing: true})
			continue
		}
		info := infos[next]
		next++
		switch {
		case info.damage != nil && info.version == 0:
			return fmt.Errorf("cannot be repaired: restore the file from the archive, or move it away and repair what is left without it: %w", info.damage)
		case node == "":
			node = info.header.node
		case info.header.node != node:
			return fmt.Errorf("%s belongs to node %q, those before it to %q: move it away", info.Path, info.header.node, node)
		}
		r.patients = append(r.patients, patient{SegmentInfo: info})
	}
	for i := range r.patients {
		r.patients[i].header.node = node
	}
	return nil
}

// treat repairs one segment and its index where that is needed.
func (r *repair) treat(i int) (*Repaired, error) {
	p := &r.patients[i]
	if p.missing {
		return r.replace(i)
	}
	last := i == len(r.patients)-1
	damage, index := verifySegment(r.disk, r.dir, &p.SegmentInfo, last)
	short := 0 // where the segment has to end at least
	if last && !p.Sealed && r.reached.At.Segment() == p.Number {
		short = int(r.reached.At.Offset())
	}
	if len(damage) == 0 && (i == 0 || p.chain == r.link) && short <= int(p.end) {
		r.link = p.footer.link
		if index != nil {
			return r.setIndexAside(p)
		}
		return nil, nil
	}
	b, err := readWhole(r.disk, p.Path)
	if err != nil {
		return nil, err
	}
	seg := &sealedSegment{header: p.header}
	if seg.number = p.Number; i > 0 {
		seg.chain = r.link
	}
	content, lost := salvage(b, seg, short)
	done := &Repaired{Segment: p.Number, Kept: seg.records(), Lost: lost}
	seg.lost = lost
	if p.lost == lostAll {
		seg.lost = lostAll
	} else {
		seg.lost += p.lost
	}
	sum := sha256.Sum256(b)
	done.Aside = fmt.Sprintf("%s-%08x.damaged", strings.TrimSuffix(p.Path, ".seg"), sum[:4])
	if err := writeFile(r.disk, r.dir, done.Aside, b); err != nil {
		return nil, err
	}
	return done, r.install(i, seg, content)
}

// replace puts an empty segment where one is missing.
func (r *repair) replace(i int) (*Repaired, error) {
	p := &r.patients[i]
	seg := &sealedSegment{header: header{number: p.Number, seed: rand.Uint32(), created: time.Now(), chain: r.link, node: p.header.node}}
	seg.lost = lostAll
	content := seg.header.encode()
	if n := int(r.reached.At.Offset()) - len(content); n > 0 && r.reached.At.Segment() == p.Number {
		content = appendGap(content, max(n, frameHeader), seg.seed)
	}
	return &Repaired{Segment: p.Number, Lost: lostAll}, r.install(i, seg, content)
}

// install writes a repaired segment. It stands for what the segment after it
// expects.
func (r *repair) install(i int, seg *sealedSegment, content []byte) error {
	seg.hash = sha256.Sum256(content)
	switch {
	case i+1 < len(r.patients) && !r.patients[i+1].missing:
		seg.link = r.patients[i+1].chain
	case r.patients[i].Sealed:
		seg.link = r.patients[i].footer.link
	default:
		seg.link = seg.hash
	}
	r.link = seg.link
	return renew(r.disk, r.dir, r.patients[i].Path, seg.footer.append(content, seg.seed))
}

// setIndexAside takes a damaged index out of the way: the next Open rebuilds it.
func (r *repair) setIndexAside(p *patient) (*Repaired, error) {
	path := indexPath(r.dir, p.Number)
	aside := path + ".damaged"
	if err := r.disk.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Repaired{Segment: p.Number, Kept: p.Records, Aside: aside}, errors.Join(r.disk.Rename(path, aside), r.disk.SyncDir(r.dir))
}

// salvage keeps whatever validates in b at its offset, and lays gaps over the
// rest. It looks for a frame at every offset, so that damage to a length loses
// one record and not all that follow. What it makes ends at atLeast or later.
func salvage(b []byte, seg *sealedSegment, atLeast int) (content []byte, lost int64) {
	content = seg.header.encode()
	loose := false // records may stand alone
	sound := 0     // bytes of the gap to come that validate and are of no use alone
	gap := func(to int) {
		if n := to - len(content); n > 0 {
			content = appendGap(content, n, seg.seed)
			lost += int64(n - sound)
			loose, sound = true, 0
		}
	}
	end := len(trimZeros(b)) // without a footer there may be room that was never written
	if foot := len(b) - footerFrame; foot >= headerSize {
		if kind, _, why := frameAt(b[foot:], seg.seed); why == "" && kind == kindFooter {
			end = foot
		}
	}
	for at := headerSize; at < end; {
		if n := at - len(content); n > 0 && n < frameHeader {
			at++ // a gap could not hold even its own frame's header
			continue
		}
		kind, payload, why := frameAt(b[at:], seg.seed)
		if why != "" {
			at++
			continue
		}
		size := frameHeader + len(payload)
		keep := false
		switch kind {
		case kindBatch:
			if to, _, why := batchAt(b, int64(at), seg.seed); why == "" {
				keep, size = true, int(to)-at
			}
		case kindGap:
			keep = true
		default:
			_, _, err := decodeRecord(Kind(kind), payload)
			keep = err == nil && (loose || at > len(content))
		}
		if keep {
			gap(at)
			content = append(content, b[at:at+size]...)
			loose = kind != kindBatch
		} else {
			sound += size
		}
		at += size
	}
	if n := max(end, atLeast) - len(content); n > 0 {
		gap(len(content) + max(n, frameHeader))
	}
	_, _ = walk(content, seg.seed, func(_ uint32, kind Kind, payload []byte) error {
		rec, _, err := decodeRecord(kind, payload)
		if err == nil {
			seg.footer.add(rec)
		}
		return err
	})
	return content, lost
}
