package fallbacklog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"manna/internal/disk"
)

// walked is what walk found in a segment.
type walked struct {
	end    int64 // after the last whole batch
	sealed bool  // a footer follows at end
	footer footer
	bad    int64 // where the first frame that does not validate begins
	why    string
}

// walk goes over the batches in b, a whole segment, and calls visit for each
// record of each whole batch. visit may be nil; its first error ends the walk.
func walk(b []byte, seed uint32, visit func(offset uint32, kind Kind, payload []byte) error) (walked, error) {
	w := walked{end: headerSize}
	loose := false // after a gap, records stand alone
	for {
		at := w.end
		if at >= int64(len(b)) {
			w.bad, w.why = at, "the segment has no footer"
			return w, nil
		}
		kind, payload, why := frameAt(b[at:], seed)
		switch {
		case why != "":
			w.bad, w.why = at, why
			return w, nil
		case kind == kindFooter:
			f, ok := decodeFooter(payload)
			if w.sealed, w.footer = ok, f; !ok || at+footerFrame != int64(len(b)) {
				w.sealed, w.bad, w.why = false, at, "the footer is not the end of the segment"
			}
			return w, nil
		case kind == kindGap:
			loose = true
			w.end += frameHeader + int64(len(payload))
			continue
		case loose && Kind(kind).valid():
			if visit != nil {
				if err := visit(uint32(at), Kind(kind), payload); err != nil {
					return w, err
				}
			}
			w.end += frameHeader + int64(len(payload))
			continue
		}
		end, bad, why := batchAt(b, at, seed)
		if why != "" {
			w.bad, w.why = bad, why
			return w, nil
		}
		loose = false
		for p := at + batchFrame; visit != nil && p < end; {
			kind, payload, _ := frameAt(b[p:], seed)
			if err := visit(uint32(p), Kind(kind), payload); err != nil {
				return w, err
			}
			p += frameHeader + int64(len(payload))
		}
		w.end = end
	}
}

// batchAt checks the batch at offset at of a segment and gives its end. A batch
// counts as a whole or not at all: where something in it does not validate, bad
// is that frame's offset and why is not empty.
func batchAt(b []byte, at int64, seed uint32) (end, bad int64, why string) {
	kind, payload, why := frameAt(b[at:], seed)
	if why != "" {
		return 0, at, why
	}
	head, ok := decodeBatchHead(payload)
	if kind != kindBatch || !ok || int64(head.offset) != at {
		return 0, at, "a frame stands outside a batch"
	}
	end = at + batchFrame + int64(head.length)
	if end > int64(len(b)) {
		return 0, at + batchFrame, "the file ends inside a batch"
	}
	n, p := uint32(0), at+batchFrame
	for ; p < end; n++ {
		kind, payload, why := frameAt(b[p:end], seed)
		if why == "" && !Kind(kind).valid() {
			why = fmt.Sprintf("a record of kind %d, which this release does not know", kind)
		}
		if why != "" {
			return 0, p, why
		}
		p += frameHeader + int64(len(payload))
	}
	if n != head.count {
		return 0, at, "a batch does not hold as many records as it says"
	}
	return end, 0, ""
}

// confirmed reports whether something after offset from proves that everything
// before it had been durable: a valid batch frame at the place it names, or a
// footer.
func confirmed(b []byte, from int64, seed uint32) bool {
	// The last bytes of a frame may be zeros themselves.
	b = b[:min(len(b), len(trimZeros(b))+footerFrame)]
	for p := from + 1; p+frameHeader <= int64(len(b)); p++ {
		switch b[p+8] {
		case kindBatch:
			if p+batchFrame > int64(len(b)) || binary.LittleEndian.Uint32(b[p+9:]) != uint32(p) {
				continue
			}
		case kindFooter:
		default:
			continue
		}
		if _, _, why := frameAt(b[p:], seed); why == "" {
			return true
		}
	}
	return false
}

// trimZeros cuts off the zeros at the end of b: room that was never written.
func trimZeros(b []byte) []byte {
	var zeros [4096]byte
	for len(b) >= len(zeros) && bytes.Equal(b[len(b)-len(zeros):], zeros[:]) {
		b = b[:len(b)-len(zeros)]
	}
	return bytes.TrimRight(b, "\x00")
}

// records decodes the records of a segment that has been read whole.
func records(path string, b []byte, number, seed uint32, visit func(*Record) error) (walked, error) {
	return walk(b, seed, func(offset uint32, kind Kind, payload []byte) error {
		rec, _, err := decodeRecord(kind, payload)
		if err != nil {
			return &CorruptError{Path: path, Offset: int64(offset), Why: err.Error()}
		}
		rec.At = At(number, offset)
		return visit(rec)
	})
}

// readWhole reads a segment into memory; segments are bounded by MaxSegment.
func readWhole(d disk.Disk, path string) ([]byte, error) {
	f, err := d.OpenRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > MaxSegment+(64<<20) {
		return nil, &CorruptError{Path: path, Why: fmt.Sprintf("a segment of %d bytes is larger than any that is written", size)}
	}
	b := make([]byte, size)
	n, err := readFull(f, b, 0)
	return b[:n], err
}

// readFull reads until b is full or the file ends.
func readFull(f io.ReaderAt, b []byte, at int64) (int, error) {
	n, err := f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
