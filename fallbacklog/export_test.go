package fallbacklog

import (
	"encoding/binary"
	"hash/crc32"

	"manna/internal/disk"
)

// What the tests of the formats need.
const (
	HeaderSize  = headerSize
	HeaderBlock = headerBlock
	BatchFrame  = batchFrame
	FooterFrame = footerFrame
	FrameHeader = frameHeader
	ReadChunk   = readChunk
	PageSize    = pageSize
	RowsPerPage = rowsPerPage
	MaxBatch    = maxBatch
	MaxNames    = maxNames
	SpanRows    = spanRows
	KindGap     = Kind(kindGap)
	KindBatch   = Kind(kindBatch)
	KindFooter  = Kind(kindFooter)
)

// Frame is a frame of a segment.
type Frame struct {
	Offset, End int
	Kind        Kind
}

// Frames gives the frames of a segment up to the first that does not validate.
func Frames(b []byte) []Frame {
	h, ok, _, _ := decodeHeader(b)
	var frames []Frame
	for at := headerSize; ok && at < len(b); {
		kind, payload, why := frameAt(b[at:], h.seed)
		if why != "" {
			break
		}
		end := at + frameHeader + len(payload)
		frames = append(frames, Frame{at, end, Kind(kind)})
		at = end
	}
	return frames
}

var (
	EncodeRecord = appendRecord
	Castagnoli   = castagnoli
)

// DecodeRecord reads a record's payload.
func DecodeRecord(kind Kind, b []byte) (*Record, error) {
	rec, _, err := decodeRecord(kind, b)
	return rec, err
}

// WriteIndex writes an index as a sealed segment of this number would have it.
func WriteIndex(d disk.Disk, dir string, segment uint32, rows []Row, names *Names) error {
	return writeIndex(d, dir, &sealedSegment{header: header{number: segment}}, rows, names)
}

// OpenIndex opens what WriteIndex wrote.
func OpenIndex(d disk.Disk, dir string, segment uint32) (*Index, error) {
	return openIndex(d, dir, &sealedSegment{header: header{number: segment}}, &files{most: 1})
}

func (x *Index) Find(id [16]byte) ([]Row, error) { return x.find(nil, id) }
func (x *Index) Close() error                    { return x.close() }

func NewNames() *Names                   { return newNames() }
func (n *Names) Add(name string) uint16  { return n.add(name) }
func CompareRows(a, b Row) int           { return compareRows(a, b) }
func RowsOf(rec *Record, n *Names) []Row { return rowsOf(nil, rec, n) }
func Salvage(b []byte) ([]byte, int64, bool) {
	h, ok, _, _ := decodeHeader(b)
	if !ok {
		return nil, 0, false
	}
	seg := &sealedSegment{header: h}
	content, lost := salvage(b, seg, 0)
	return seg.footer.append(content, h.seed), lost, true
}

// SealHeader writes the checksums of both blocks of a header.
func SealHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
	copy(b[headerBlock:], b[:headerBlock])
}

// Pending counts the records that wait for the next commit.
func Pending(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return 0
	}
	return len(l.pending.recs)
}

// SetMost sets the size past which a segment that cannot be sealed takes nothing.
func SetMost(l *Log, bytes int64) { l.most = bytes }

// MaxFiles bounds how many segments are held open for reading.
const MaxFiles = maxFiles
