package fallbacklog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"manna/internal/disk"
)

// Repaired says what Repair did to one segment.
type Repaired struct {
	Segment uint32 `json:"segment"`
	Kept    int64  `json:"kept"` // records that validated
	Lost    int64  `json:"lost"` // bytes that did not
	Aside   string `json:"aside"`
}

// Repair salvages every record that validates from the damaged segments of the
// log in dir. The damaged files are set aside under <name>.damaged, never
// deleted. The chain of hashes is laid anew from the first repaired segment on.
// Nobody else may use the directory meanwhile: Repair takes its lock.
func Repair(d disk.Disk, dir string) (done []Repaired, err error) {
	lock, err := d.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer lock.Close()
	if err := clean(d, dir); err != nil {
		return nil, err
	}
	infos, err := Segments(d, dir)
	if err != nil {
		return nil, err
	}
	var chain [32]byte
	relay := false // a segment before was rewritten or is missing
	for i := range infos {
		info := &infos[i]
		relay = relay || i > 0 && info.Number != infos[i-1].Number+1
		last := i == len(infos)-1
		damage := info.Damage != "" || len(verifySegment(d, dir, info, false, chain, last)) > 0
		if !damage && !(relay && info.chain != chain) {
			chain = info.hash
			continue
		}
		b, err := readWhole(d, info.Path)
		if err != nil {
			return done, err
		}
		h := info.header
		if info.Damage != "" {
			// The seed is in the header: without it nothing of the segment can be
			// told from noise.
			return done, fmt.Errorf("%s: nothing can be salvaged from a segment whose header is damaged: restore it from the archive, or move it away and its claims are reported as unexpected grants", info.Path)
		}
		h.number, h.chain = info.Number, chain
		seg := &sealedSegment{header: h}
		content, lost := salvage(b, seg)
		seg.hash = sha256.Sum256(content)
		r := Repaired{Segment: info.Number, Kept: seg.records(), Lost: lost, Aside: info.Path + ".damaged"}
		fresh := info.Path + ".recover"
		if err := writeFile(d, dir, r.Aside, b); err != nil {
			return done, err
		}
		if err := writeFile(d, dir, fresh, seg.footer.append(content, h.seed)); err != nil {
			return done, err
		}
		// Commit point: the salvaged segment takes the damaged one's place.
		if err := errors.Join(d.Rename(fresh, info.Path), d.SyncDir(dir)); err != nil {
			return done, err
		}
		done = append(done, r)
		chain, relay = seg.hash, true
	}
	return done, nil
}

// salvage lays all records of b that validate into batches of a new segment. It
// looks for a frame at every offset, so that damage to a length loses one record
// and not all that follow.
func salvage(b []byte, seg *sealedSegment) (content []byte, lost int64) {
	content = seg.header.encode()
	for at := int64(headerSize); at < int64(len(b)); {
		kind, payload, why := frameAt(b[at:], seg.seed)
		if why != "" {
			if b[at] != 0 {
				lost++
			}
			at++
			continue
		}
		n := int64(frameHeader + len(payload))
		if rec, err := decodeRecord(Kind(kind), payload); err == nil {
			content = batchHead{offset: uint32(len(content)), length: uint32(n), count: 1}.append(content, seg.seed)
			content = append(content, bytes.Clone(b[at:at+n])...)
			seg.footer.add(rec)
		}
		at += n
	}
	return content, lost
}
