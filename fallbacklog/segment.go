package fallbacklog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"manna/internal/disk"
)

const (
	headerBlock   = 512
	headerSize    = 2 * headerBlock
	formatVersion = 1

	chainAt = 28 // offset of the chain in a header
)

var segmentMagic = []byte("MANNASEG")

// header begins a segment.
type header struct {
	version uint16
	number  uint32
	seed    uint32
	created time.Time
	chain   [32]byte
	node    string
}

// encode gives the header's two blocks.
func (h *header) encode() []byte {
	b := make([]byte, headerBlock, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], formatVersion)
	b[10] = byte(len(h.node))
	binary.LittleEndian.PutUint32(b[12:], h.number)
	binary.LittleEndian.PutUint32(b[16:], h.seed)
	binary.LittleEndian.PutUint64(b[20:], uint64(h.created.UnixNano()))
	copy(b[chainAt:], h.chain[:])
	copy(b[60:124], h.node)
	binary.LittleEndian.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
	return append(b, b...)
}

// decodeHeader reads the two blocks. Where one is damaged, why says so, bad is
// its offset, and the header is the other's; where both are, ok is false.
func decodeHeader(b []byte) (h header, ok bool, bad int64, why string) {
	h, why = decodeBlock(b)
	if why != "" {
		h, again := decodeBlock(b[min(headerBlock, len(b)):])
		return h, again == "", 0, why
	}
	if len(b) < headerSize || !bytes.Equal(b[:headerBlock], b[headerBlock:headerSize]) {
		return h, true, headerBlock, "the second block of the segment's header is not like the first"
	}
	return h, true, 0, ""
}

func decodeBlock(b []byte) (h header, why string) {
	switch {
	case len(b) < headerBlock:
		return h, "the file ends inside the segment's header"
	case !bytes.Equal(b[:8], segmentMagic):
		return h, "this is no segment of a fallback log"
	case crc32.Checksum(b[:508], castagnoli) != binary.LittleEndian.Uint32(b[508:]):
		return h, "the segment header's checksum does not match"
	}
	h.version = binary.LittleEndian.Uint16(b[8:])
	h.number = binary.LittleEndian.Uint32(b[12:])
	h.seed = binary.LittleEndian.Uint32(b[16:])
	h.created = time.Unix(0, int64(binary.LittleEndian.Uint64(b[20:]))).UTC()
	copy(h.chain[:], b[chainAt:])
	h.node = string(b[60 : 60+min(int(b[10]), 64)])
	return h, ""
}

// firstSegment is the number of a log's first segment. Nothing takes segments away:
// a claim that is forgotten could be made, and delivered, again.
const firstSegment = 1

func segmentPath(dir string, n uint32) string { return filepath.Join(dir, fmt.Sprintf("%08d.seg", n)) }
func indexPath(dir string, n uint32) string   { return filepath.Join(dir, fmt.Sprintf("%08d.idx", n)) }

// segmentNumbers lists the numbers of the segments in dir, ascending.
func segmentNumbers(d disk.Disk, dir string) ([]uint32, error) {
	return numbered(d, dir, ".seg")
}

// numbered lists the numbers of the files with this ending, ascending.
func numbered(d disk.Disk, dir, ending string) ([]uint32, error) {
	names, err := d.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ending)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 || name != fmt.Sprintf("%08d%s", n, ending) {
			return nil, &CorruptError{Path: filepath.Join(dir, name), Why: "the file's name is no segment number"}
		}
		numbers = append(numbers, uint32(n))
	}
	slices.Sort(numbers)
	return numbers, nil
}

// sealedSegment is what is known of a segment that no longer changes.
type sealedSegment struct {
	header
	footer
	size int64 // bytes up to the end of the footer
}

// readHeader reads and checks the header of segment n. Beside a *CorruptError it
// gives the header all the same where one of its blocks is whole, and otherwise a
// zero one.
func readHeader(f io.ReaderAt, path string, n uint32) (header, error) {
	b := make([]byte, headerSize)
	got, err := readFull(f, b, 0)
	if err != nil {
		return header{}, err
	}
	h, ok, bad, why := decodeHeader(b[:got])
	switch {
	case !ok:
		return header{}, &CorruptError{Path: path, Offset: bad, Why: why}
	case h.version != formatVersion:
		return header{}, fmt.Errorf("%s has format %d, this release reads format %d: use the release that wrote it", path, h.version, formatVersion)
	case h.number != n:
		return header{}, &CorruptError{Path: path, Why: fmt.Sprintf("the file holds segment %d: find out who renamed it, and rename it back", h.number)}
	case why != "":
		return h, &CorruptError{Path: path, Offset: bad, Why: why}
	}
	return h, nil
}

// sized is what can be read at any place and has an end.
type sized interface {
	io.ReaderAt
	Size() (int64, error)
}

// readSealed reads header and footer of segment n. ok is false where the
// segment has a valid header and no footer.
func readSealed(f sized, path string, n uint32) (s sealedSegment, ok bool, err error) {
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
