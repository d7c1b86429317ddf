package fallbacklog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"manna/internal/disk"
)

const (
	headerSize    = 256
	formatVersion = 1
)

var segmentMagic = []byte("MANNASEG")

// header begins a segment.
type header struct {
	number  uint32
	seed    uint32
	created time.Time
	chain   [32]byte
	node    string
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], formatVersion)
	b[10] = byte(len(h.node))
	binary.LittleEndian.PutUint32(b[12:], h.number)
	binary.LittleEndian.PutUint32(b[16:], h.seed)
	binary.LittleEndian.PutUint64(b[20:], uint64(h.created.UnixNano()))
	copy(b[28:60], h.chain[:])
	copy(b[60:124], h.node)
	binary.LittleEndian.PutUint32(b[252:], crc32.Checksum(b[:252], castagnoli))
	return b
}

func decodeHeader(b []byte) (h header, why string) {
	switch {
	case len(b) < headerSize:
		return h, "the file ends inside the segment's header"
	case !bytes.Equal(b[:8], segmentMagic):
		return h, "this is no segment of a fallback log"
	case crc32.Checksum(b[:252], castagnoli) != binary.LittleEndian.Uint32(b[252:]):
		return h, "the segment header's checksum does not match"
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != formatVersion {
		return h, fmt.Sprintf("the segment has format %d, this release reads %d", v, formatVersion)
	}
	h.number = binary.LittleEndian.Uint32(b[12:])
	h.seed = binary.LittleEndian.Uint32(b[16:])
	h.created = time.Unix(0, int64(binary.LittleEndian.Uint64(b[20:]))).UTC()
	copy(h.chain[:], b[28:60])
	h.node = string(b[60 : 60+min(int(b[10]), 64)])
	return h, ""
}

func segmentPath(dir string, n uint32) string { return filepath.Join(dir, fmt.Sprintf("%08d.seg", n)) }
func indexPath(dir string, n uint32) string   { return filepath.Join(dir, fmt.Sprintf("%08d.idx", n)) }

// segmentNumbers lists the numbers of the segments in dir, ascending.
func segmentNumbers(d disk.Disk, dir string) ([]uint32, error) {
	names, err := d.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".seg")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 || name != filepath.Base(segmentPath("", uint32(n))) {
			return nil, &CorruptError{Path: filepath.Join(dir, name), Why: "the file's name is no segment number"}
		}
		numbers = append(numbers, uint32(n))
	}
	return numbers, nil
}

// sealedSegment is what is known of a segment that no longer changes.
type sealedSegment struct {
	header
	footer
	size int64 // bytes up to the end of the footer
}

func (s *sealedSegment) end() uint32 { return uint32(s.size - footerFrame) }

// readHeader reads and checks the header of segment n.
func readHeader(f disk.File, path string, n uint32) (header, error) {
	b := make([]byte, headerSize)
	got, err := readFull(f, b, 0)
	if err != nil {
		return header{}, err
	}
	h, why := decodeHeader(b[:got])
	if why == "" && h.number != n {
		why = fmt.Sprintf("the header says segment %d", h.number)
	}
	if why != "" {
		return header{}, &CorruptError{Path: path, Why: why}
	}
	return h, nil
}

// readSealed reads header and footer of segment n. ok is false where the
// segment has a valid header and no footer.
func readSealed(f disk.File, path string, n uint32) (s sealedSegment, ok bool, err error) {
	if s.header, err = readHeader(f, path, n); err != nil {
		return s, false, err
	}
	if s.size, err = f.Size(); err != nil {
		return s, false, err
	}
	if s.size < headerSize+footerFrame {
		return s, false, nil
	}
	b := make([]byte, footerFrame)
	if _, err := readFull(f, b, s.size-footerFrame); err != nil {
		return s, false, err
	}
	kind, payload, why := frameAt(b, s.seed)
	if why != "" || kind != kindFooter {
		return s, false, nil
	}
	s.footer, ok = decodeFooter(payload)
	return s, ok, nil
}
