package fallbacklog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"manna/internal/disk"
)

// clean removes what an interrupted roll, recovery or index left unfinished.
// None of these files has ever been part of the log.
func clean(d disk.Disk, dir string) error {
	names, err := d.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".seg.next") || strings.HasSuffix(name, ".seg.recover") || strings.HasSuffix(name, ".idx.tmp") {
			if err := d.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverSegments reads the headers and footers of all segments, checks that they
// form one chain of one node, and seals the last one if a crash left it active.
func recoverSegments(d disk.Disk, dir, node string, reached Reached, logger *slog.Logger) ([]sealedSegment, error) {
	numbers, err := segmentNumbers(d, dir)
	if err != nil {
		return nil, err
	}
	if err := wantAll(d, dir, numbers); err != nil {
		return nil, err
	}
	if want := reached.segment(); want > uint32(len(numbers)) {
		return nil, &CorruptError{Path: segmentPath(dir, uint32(len(numbers))+1), Why: "the segment is missing: " + reached.short()}
	}
	var segs []sealedSegment
	for i, n := range numbers {
		path := segmentPath(dir, n)
		f, err := d.OpenRead(path)
		if err != nil {
			return nil, err
		}
		seg, sealed, err := readSealed(f, path, n)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		switch {
		case seg.node != node && i == 0:
			return nil, fmt.Errorf("%s belongs to node %q, this is node %q: set `node: %s` in the configuration, or another data directory", dir, seg.node, node, seg.node)
		case seg.node != node:
			return nil, &CorruptError{Path: path, Why: fmt.Sprintf("the segment belongs to node %q, those before it to %q", seg.node, node)}
		case i > 0 && seg.chain != segs[i-1].link:
			return nil, &CorruptError{Path: path, Offset: chainAt, Why: fmt.Sprintf("the segment does not follow segment %d: their hashes differ", n-1)}
		case !sealed && i < len(numbers)-1:
			return nil, &CorruptError{Path: path, Offset: max(0, seg.size-footerFrame), Why: "the footer does not validate and a segment follows"}
		}
		if i == len(numbers)-1 && !(sealed && indexedAs(d, dir, &seg)) {
			recovered, err := sealTail(d, dir, seg.header, reached, logger)
			if err != nil {
				return nil, fmt.Errorf("seal the segment that a crash left open: %w", err)
			}
			if recovered == nil {
				continue
			}
			seg = *recovered
		}
		segs = append(segs, seg)
	}
	return segs, nil
}

// wantAll fails where a segment is missing, also at the end: an index that is left
// behind tells of it.
func wantAll(d disk.Disk, dir string, numbers []uint32) error {
	for i, n := range numbers {
		if want := firstSegment + uint32(i); n != want {
			return missing(dir, want)
		}
	}
	newest, err := newestIndex(d, dir)
	switch {
	case err != nil || newest == 0:
		return err
	case len(numbers) == 0:
		return missing(dir, newest)
	case newest > numbers[len(numbers)-1]:
		return missing(dir, numbers[len(numbers)-1]+1)
	}
	return nil
}

// newestIndex gives the number of the newest index, or 0. There has been a segment
// of that number.
func newestIndex(d disk.Disk, dir string) (uint32, error) {
	indexes, err := numbered(d, dir, ".idx")
	if err != nil || len(indexes) == 0 {
		return 0, err
	}
	return indexes[len(indexes)-1], nil
}

func missing(dir string, n uint32) *CorruptError {
	return &CorruptError{Path: segmentPath(dir, n), Why: "the segment is missing"}
}

// sealTail seals the segment that was active when the process ended. One that has
// a footer but no index counts as active: the footer may not have been synced. It
// writes a fresh copy: after a failed sync the pages in memory may show bytes that
// the disk does not have. A nil segment means that there was nothing in it.
func sealTail(d disk.Disk, dir string, h header, reached Reached, logger *slog.Logger) (*sealedSegment, error) {
	path := segmentPath(dir, h.number)
	b, err := readWhole(d, path)
	if err != nil {
		return nil, err
	}
	seg := &sealedSegment{header: h}
	w, err := records(path, b, h.number, h.seed, seg.count)
	if err != nil {
		return nil, err
	}
	content := b[:w.end:w.end]
	seg.hash = sha256.Sum256(content)
	seg.link = seg.hash
	seg.size = w.end + footerFrame
	switch {
	case w.sealed && w.footer.hash != seg.hash:
		return nil, &CorruptError{Path: path, Offset: w.end, Why: "the content's hash is not the one in the footer"}
	case w.sealed:
		seg.link, seg.lost = w.footer.link, w.footer.lost
		return seg, renew(d, dir, path, seg.footer.append(content, h.seed))
	case confirmed(b, w.bad, h.seed):
		return nil, &CorruptError{Path: path, Offset: w.bad, Why: w.why + ", and what follows proves that it had been durable"}
	case indexed(d, dir, h.number):
		return nil, &CorruptError{Path: path, Offset: w.bad, Why: w.why + ", and the segment has an index: it had been sealed"}
	case reached.At > At(h.number, uint32(w.end)):
		return nil, &CorruptError{Path: path, Offset: w.end, Why: reached.short()}
	}
	if torn := trimZeros(b[w.end:]); len(torn) > 0 {
		// The seed is in the name: the number may be used again, and what was cut
		// from one segment must not take the place of what was cut from another.
		aside := filepath.Join(dir, fmt.Sprintf("%08d-%08x.torn", h.number, h.seed))
		if err := writeFile(d, dir, aside, torn); err != nil {
			return nil, err
		}
		logger.Warn("cut the torn tail of the log; nobody was told that it had been accepted",
			"segment", path, "offset", w.end, "bytes", len(torn), "why", w.why, "kept_in", aside)
	}
	if seg.records() == 0 {
		return nil, errors.Join(d.Remove(path), d.SyncDir(dir))
	}
	return seg, renew(d, dir, path, seg.footer.append(content, h.seed))
}

// renew puts a recovered or repaired segment in the place of the one that is there.
func renew(d disk.Disk, dir, path string, b []byte) error {
	fresh := path + ".recover"
	if err := writeFile(d, dir, fresh, b); err != nil {
		return err
	}
	// Commit point: from here on the segment is this one.
	return errors.Join(d.Rename(fresh, path), d.SyncDir(dir))
}

// count adds a record to the footer's figures.
func (s *sealedSegment) count(rec *Record) error { s.footer.add(rec); return nil }

// writeFile writes a whole file durably, replacing one left by an earlier try.
func writeFile(d disk.Disk, dir, path string, b []byte) error {
	if err := d.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Nothing refers to it yet, and on a full disk it would be in the way.
		return errors.Join(err, d.Remove(path))
	}
	return d.SyncDir(dir)
}
