package fallbacklog

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	frameHeader = 9
	kindGap     = 0xFD
	kindBatch   = 0xFE
	kindFooter  = 0xFF

	batchPayload  = 12
	batchFrame    = frameHeader + batchPayload
	footerPayload = 32 + 32 + 8 + 8 + 4*kinds + 8
	footerFrame   = frameHeader + footerPayload
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// beginFrame appends a frame header without its checksum.
func beginFrame(b []byte, kind byte, length int) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	return append(b, kind)
}

// sealFrame writes the checksum of the frame that is b.
func sealFrame(b []byte, seed uint32) {
	binary.LittleEndian.PutUint32(b, crc32.Update(seed, castagnoli, b[4:]))
}

// frameAt reads the frame at the beginning of b. The payload is part of b. why
// is empty where the frame validates.
func frameAt(b []byte, seed uint32) (kind byte, payload []byte, why string) {
	if len(b) < frameHeader {
		return 0, nil, "the file ends inside a frame's header"
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > MaxRecord {
		return 0, nil, "a frame's length is out of bounds"
	}
	if len(b) < frameHeader+int(n) {
		return 0, nil, "the file ends inside a frame"
	}
	frame := b[:frameHeader+n]
	if crc32.Update(seed, castagnoli, frame[4:]) != binary.LittleEndian.Uint32(frame) {
		return 0, nil, "a frame's checksum does not match"
	}
	return frame[8], frame[frameHeader:], ""
}

// batchHead is the payload of a batch frame.
type batchHead struct{ offset, length, count uint32 }

func (h batchHead) append(b []byte, seed uint32) []byte {
	start := len(b)
	b = beginFrame(b, kindBatch, batchPayload)
	b = binary.LittleEndian.AppendUint32(b, h.offset)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.count)
	sealFrame(b[start:], seed)
	return b
}

func decodeBatchHead(p []byte) (batchHead, bool) {
	if len(p) != batchPayload {
		return batchHead{}, false
	}
	return batchHead{binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:])}, true
}

// footer closes a segment.
type footer struct {
	hash [32]byte
	// link is what the next segment has as its chain: the hash, or in a segment
	// that was repaired the hash that it had before.
	link        [32]byte
	first, last int64 // Unix nanoseconds of the first and last record
	counts      [kinds]uint32
	// lost is how many bytes of records a repair could not bring back: 0 in a
	// segment that has always been whole, lostAll where the segment was missing.
	lost int64
}

func (f *footer) append(b []byte, seed uint32) []byte {
	start := len(b)
	b = beginFrame(b, kindFooter, footerPayload)
	b = append(b, f.hash[:]...)
	b = append(b, f.link[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.first))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.last))
	for _, n := range f.counts {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(f.lost))
	sealFrame(b[start:], seed)
	return b
}

func decodeFooter(p []byte) (footer, bool) {
	var f footer
	if len(p) != footerPayload {
		return f, false
	}
	copy(f.hash[:], p)
	copy(f.link[:], p[32:])
	f.first = int64(binary.LittleEndian.Uint64(p[64:]))
	f.last = int64(binary.LittleEndian.Uint64(p[72:]))
	for i := range f.counts {
		f.counts[i] = binary.LittleEndian.Uint32(p[80+4*i:])
	}
	f.lost = int64(binary.LittleEndian.Uint64(p[80+4*kinds:]))
	return f, true
}

// appendGap appends n bytes, at least frameHeader, of frames that say that
// nothing is there.
func appendGap(b []byte, n int, seed uint32) []byte {
	const most = frameHeader + MaxRecord
	for n > 0 {
		size := min(n, most)
		if left := n - size; left > 0 && left < frameHeader {
			size -= frameHeader
		}
		start := len(b)
		b = beginFrame(b, kindGap, size-frameHeader)
		b = append(b, make([]byte, size-frameHeader)...)
		sealFrame(b[start:], seed)
		n -= size
	}
	return b
}

// add counts a record in.
func (f *footer) add(rec *Record) {
	f.counts[rec.Kind]++
	at := rec.Time.UnixNano()
	if f.first == 0 {
		f.first = at
	}
	f.last = at
}

// records is the number of records the footer counts.
func (f *footer) records() int64 {
	var n int64
	for _, c := range f.counts {
		n += int64(c)
	}
	return n
}
