package fallbacklog

import (
	"bytes"
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
func recoverSegments(d disk.Disk, dir, node string, logger *slog.Logger) ([]sealedSegment, error) {
	numbers, err := segmentNumbers(d, dir)
	if err != nil {
		return nil, err
	}
	var segs []sealedSegment
	for i, n := range numbers {
		path := segmentPath(dir, n)
		if i > 0 && n != numbers[i-1]+1 {
			return nil, &CorruptError{Path: segmentPath(dir, numbers[i-1]+1), Why: "the segment is missing"}
		}
		f, err := d.OpenRead(path)
		if err != nil {
			return nil, err
		}
		seg, sealed, err := readSealed(f, path, n)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if seg.node != node {
			return nil, fmt.Errorf("%s belongs to node %q, this is node %q: set `node: %s` in the configuration, or another data directory", dir, seg.node, node, seg.node)
		}
		if i > 0 && seg.chain != segs[i-1].hash {
			return nil, &CorruptError{Path: path, Offset: 28, Why: fmt.Sprintf("the segment does not follow segment %d: their hashes differ", n-1)}
		}
		last := i == len(numbers)-1
		if !sealed && !last {
			return nil, &CorruptError{Path: path, Offset: max(0, seg.size-footerFrame), Why: "the footer does not validate and a segment follows"}
		}
		if !sealed {
			recovered, err := sealTail(d, dir, seg.header, logger)
			if err != nil {
				return nil, err
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

// sealTail seals the segment that was active when the process ended. It writes a
// fresh copy: after a failed sync the pages in memory may show bytes that the
// disk does not have. A nil segment means that there was nothing in it.
func sealTail(d disk.Disk, dir string, h header, logger *slog.Logger) (*sealedSegment, error) {
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
	if w.sealed {
		return nil, &CorruptError{Path: path, Offset: w.end, Why: "bytes follow the footer"}
	}
	if confirmed(b, w.bad, h.seed) {
		return nil, &CorruptError{Path: path, Offset: w.bad, Why: w.why + ", and what follows proves that it had been durable"}
	}
	if torn := bytes.TrimRight(b[w.end:], "\x00"); len(torn) > 0 {
		aside := strings.TrimSuffix(path, ".seg") + ".torn"
		if err := writeFile(d, dir, aside, torn); err != nil {
			return nil, err
		}
		logger.Warn("cut the torn tail of the log; nobody was told that it had been accepted",
			"segment", path, "offset", w.end, "bytes", len(torn), "why", w.why, "kept_in", aside)
	}
	if seg.records() == 0 {
		return nil, errors.Join(d.Remove(path), d.SyncDir(dir))
	}
	content := b[:w.end]
	seg.hash = sha256.Sum256(content)
	seg.size = w.end + footerFrame
	fresh := path + ".recover"
	if err := writeFile(d, dir, fresh, seg.footer.append(bytes.Clone(content), h.seed)); err != nil {
		return nil, err
	}
	// Commit point: the recovered segment takes the place of the active one.
	return seg, errors.Join(d.Rename(fresh, path), d.SyncDir(dir))
}

// count adds a record to the footer's figures.
func (s *sealedSegment) count(rec *Record) error { s.footer.add(rec); return nil }

func (f *footer) add(rec *Record) {
	f.counts[rec.Kind]++
	at := rec.Time.UnixNano()
	if f.first == 0 {
		f.first = at
	}
	f.last = at
}

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
		return err
	}
	return d.SyncDir(dir)
}
