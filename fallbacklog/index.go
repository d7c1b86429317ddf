package fallbacklog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"sort"

	"manna/internal/disk"
)

// An index file is pages of sorted rows, then the fences (the first eight bytes
// of the first id of each page, big-endian), then the names, then a trailer:
//
//	page     0  4  CRC-32C of the rest of the page
//	         4  4  number of rows
//	         8  …  rows
//	trailer  0  8  "MANNAIDX"
//	         8  4  segment number
//	        12  4  number of pages
//	        16  8  number of rows
//	        24  4  bytes of fences and names together
//	        28  4  CRC-32C of fences and names
//	        32 32  the segment's hash, as its footer has it
//	        64  4  CRC-32C of the trailer before
const (
	pageSize     = 4096
	pageHead     = 8
	rowsPerPage  = (pageSize - pageHead) / rowSize
	trailerSize  = 68
	maxIndexTail = 64 << 20 // more than maxNames of maxName and a segment's fences
)

var indexMagic = []byte("MANNAIDX")

// Index is the sorted index of one sealed segment. It is immutable and safe for
// concurrent use.
type Index struct {
	path    string
	file    *file
	segment uint32
	hash    [32]byte
	rows    int64
	fences  []uint64
	names   *Names
}

// errStaleIndex: the index belongs to another content of its segment.
var errStaleIndex = errors.New("index does not belong to its segment")

// writeIndex writes the index of a sealed segment: under a passing name, synced,
// then renamed.
func writeIndex(d disk.Disk, dir string, seg *sealedSegment, rows []Row, names *Names) error {
	path := indexPath(dir, seg.number)
	temp := path + ".tmp"
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	err = errors.Join(writeIndexTo(f, seg, rows, names), f.Close())
	if err == nil {
		if err = d.Rename(temp, path); err == nil {
			return d.SyncDir(dir)
		}
	}
	d.Remove(temp)
	return err
}

// indexFile is what an index is written to.
type indexFile interface {
	io.WriterAt
	Sync() error
}

func writeIndexTo(f indexFile, seg *sealedSegment, rows []Row, names *Names) error {
	var at int64
	var fences []byte
	pages := uint32(0)
	count := uint64(len(rows))
	chunk := make([]byte, 0, 64*pageSize)
	flush := func() error {
		_, err := f.WriteAt(chunk, at)
		at += int64(len(chunk))
		chunk = chunk[:0]
		return err
	}
	for len(rows) > 0 {
		n := min(len(rows), rowsPerPage)
		fences = append(fences, rows[0].ID[:8]...)
		start := len(chunk)
		chunk = append(chunk, make([]byte, pageHead)...)
		for i := range rows[:n] {
			chunk = rows[i].append(chunk)
		}
		chunk = append(chunk, make([]byte, start+pageSize-len(chunk))...)
		page := chunk[start:]
		binary.LittleEndian.PutUint32(page[4:], uint32(n))
		binary.LittleEndian.PutUint32(page, crc32.Checksum(page[4:], castagnoli))
		rows = rows[n:]
		pages++
		if len(chunk) == cap(chunk) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	tail := fences
	for _, name := range names.list[1:] {
		tail = binary.LittleEndian.AppendUint16(tail, uint16(len(name)))
		tail = append(tail, name...)
	}
	trailer := append([]byte(nil), indexMagic...)
	trailer = binary.LittleEndian.AppendUint32(trailer, seg.number)
	trailer = binary.LittleEndian.AppendUint32(trailer, pages)
	trailer = binary.LittleEndian.AppendUint64(trailer, count)
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(tail)))
	trailer = binary.LittleEndian.AppendUint32(trailer, crc32.Checksum(tail, castagnoli))
	trailer = append(trailer, seg.hash[:]...)
	trailer = binary.LittleEndian.AppendUint32(trailer, crc32.Checksum(trailer, castagnoli))
	chunk = append(append(chunk, tail...), trailer...)
	if err := flush(); err != nil {
		return err
	}
	return f.Sync()
}

// openIndex opens the index of a sealed segment, as one of these files. Any damage or
// mismatch is an error; the caller rebuilds the index then.
func openIndex(d disk.Disk, dir string, seg *sealedSegment, in *files) (*Index, error) {
	x, err := readIndex(d, dir, seg.number, in)
	if err != nil {
		return nil, err
	}
	return x, x.of(seg.hash)
}

// of closes an index that belongs to another content of its segment.
func (x *Index) of(hash [32]byte) error {
	if x.hash == hash {
		return nil
	}
	return errors.Join(fmt.Errorf("%s: %w", x.path, errStaleIndex), x.close())
}

// indexedAs tells whether a segment has its index: then its footer is durable.
func indexedAs(d disk.Disk, dir string, seg *sealedSegment) bool {
	x, err := openIndex(d, dir, seg, &files{most: 1})
	if err != nil {
		return false
	}
	x.close()
	return true
}

// indexed tells whether segment n has an index, of whatever content: then the
// segment has been sealed.
func indexed(d disk.Disk, dir string, n uint32) bool {
	x, err := readIndex(d, dir, n, &files{most: 1})
	if err != nil {
		return false
	}
	x.close()
	return true
}

func readIndex(d disk.Disk, dir string, n uint32, in *files) (*Index, error) {
	path := indexPath(dir, n)
	// A look-up goes through the indexes in turn, so whichever was used longest ago
	// would be the next to be read. The older ones make way instead.
	return newIndex(path, in.file(n, func() (disk.File, error) { return d.OpenRead(path) }), n)
}

// newIndex makes the index of a segment in a file, which is the index's from here on.
func newIndex(path string, f *file, segment uint32) (*Index, error) {
	x := &Index{path: path, file: f, segment: segment, names: newNames()}
	if err := x.load(); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// load reads everything but the rows.
func (x *Index) load() error {
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	size, err := f.Size()
	if err != nil {
		return err
	}
	damaged := func(offset int64, why string) error { return &CorruptError{Path: x.path, Offset: offset, Why: why} }
	if size < trailerSize {
		return damaged(0, "the index has no trailer")
	}
	t := make([]byte, trailerSize)
	if _, err := readFull(f, t, size-trailerSize); err != nil {
		return err
	}
	if !bytes.Equal(t[:8], indexMagic) || crc32.Checksum(t[:64], castagnoli) != binary.LittleEndian.Uint32(t[64:]) {
		return damaged(size-trailerSize, "the index trailer does not validate")
	}
	if n := binary.LittleEndian.Uint32(t[8:]); n != x.segment {
		return damaged(size-trailerSize, fmt.Sprintf("this is the index of segment %d", n))
	}
	copy(x.hash[:], t[32:64])
	pages := int64(binary.LittleEndian.Uint32(t[12:]))
	x.rows = int64(binary.LittleEndian.Uint64(t[16:]))
	tail := int64(binary.LittleEndian.Uint32(t[24:]))
	if tail > maxIndexTail || pages*8 > tail || pages*pageSize+tail+trailerSize != size || (x.rows+rowsPerPage-1)/rowsPerPage != pages {
		return damaged(size-trailerSize, "the index trailer's sizes do not fit the file")
	}
	b := make([]byte, tail)
	if _, err := readFull(f, b, pages*pageSize); err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(t[28:]) {
		return damaged(pages*pageSize, "the index's fences do not validate")
	}
	x.fences = make([]uint64, pages)
	for i := range x.fences {
		x.fences[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	for b = b[8*pages:]; len(b) >= 2; {
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			return damaged(pages*pageSize, "the index's names do not validate")
		}
		x.names.add(string(b[:n]))
		b = b[n:]
	}
	return nil
}

// Segment is the number of the segment that the index belongs to.
func (x *Index) Segment() uint32 { return x.segment }

// Rows is the number of rows.
func (x *Index) Rows() int64 { return x.rows }

// Names resolves the numbers in the rows.
func (x *Index) Names() *Names { return x.names }

// page reads and checks page i of the index's file into buf and returns its rows' bytes.
func (x *Index) page(f io.ReaderAt, i int, buf []byte) ([]byte, error) {
	got, err := readFull(f, buf[:pageSize], int64(i)*pageSize)
	if err != nil {
		return nil, err
	}
	clear(buf[got:]) // of what it held before
	return x.pageRows(i, buf)
}

// pageRows checks page i, which has been read into buf.
func (x *Index) pageRows(i int, buf []byte) ([]byte, error) {
	n := binary.LittleEndian.Uint32(buf[4:])
	if crc32.Checksum(buf[4:pageSize], castagnoli) != binary.LittleEndian.Uint32(buf) || n > rowsPerPage {
		return nil, &CorruptError{Path: x.path, Offset: int64(i) * pageSize, Why: "an index page's checksum does not match"}
	}
	return buf[pageHead : pageHead+n*rowSize], nil
}

// read reads page i and leaves the file to others until the next.
func (x *Index) read(i int, buf []byte) ([]byte, error) {
	f, err := x.file.acquire()
	if err != nil {
		return nil, err
	}
	defer x.file.release()
	return x.page(f, i, buf)
}

// check reads all pages.
func (x *Index) check() error {
	f, err := x.file.acquire()
	if err != nil {
		return err
	}
	defer x.file.release()
	chunk := make([]byte, 64*pageSize)
	for i := 0; i < len(x.fences); i += 64 {
		pages := chunk[:min(64, len(x.fences)-i)*pageSize]
		got, err := readFull(f, pages, int64(i)*pageSize)
		if err != nil {
			return err
		}
		clear(pages[got:])
		for j := i; len(pages) > 0; j++ {
			if _, err := x.pageRows(j, pages[:pageSize]); err != nil {
				return err
			}
			pages = pages[pageSize:]
		}
	}
	return nil
}

// find appends the rows of an id in ascending order.
func (x *Index) find(rows []Row, id [16]byte) ([]Row, error) {
	key := binary.BigEndian.Uint64(id[:])
	// The id may begin in the page before the first one whose fence is not below
	// the key.
	i := max(0, sort.Search(len(x.fences), func(i int) bool { return x.fences[i] >= key })-1)
	if i == len(x.fences) || x.fences[i] > key {
		return rows, nil
	}
	f, err := x.file.acquire()
	if err != nil {
		return rows, err
	}
	defer x.file.release()
	buf := make([]byte, pageSize)
	for ; i < len(x.fences) && x.fences[i] <= key; i++ {
		b, err := x.page(f, i, buf)
		if err != nil {
			return rows, err
		}
		n := len(b) / rowSize
		j := sort.Search(n, func(j int) bool { return bytes.Compare(b[j*rowSize:j*rowSize+16], id[:]) >= 0 })
		for ; j < n && bytes.Equal(b[j*rowSize:j*rowSize+16], id[:]); j++ {
			var r Row
			r.decode(b[j*rowSize:])
			rows = append(rows, r)
		}
		if j < n {
			break
		}
	}
	return rows, nil
}

// All streams the rows in the order of their ids. It reads a fixed amount ahead
// and ends after the first error.
func (x *Index) All() iter.Seq2[Row, error] { return x.Range([16]byte{}, nil) }

// Range streams the rows with from ≤ id < to; a nil to has no end. Merging the
// ranges of several indexes over the same ids splits work over cores.
func (x *Index) Range(from [16]byte, to *[16]byte) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		key := binary.BigEndian.Uint64(from[:])
		i := max(0, sort.Search(len(x.fences), func(i int) bool { return x.fences[i] >= key })-1)
		buf := make([]byte, pageSize)
		for ; i < len(x.fences); i++ {
			b, err := x.read(i, buf)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for ; len(b) > 0; b = b[rowSize:] {
				if bytes.Compare(b[:16], from[:]) < 0 {
					continue
				}
				if to != nil && bytes.Compare(b[:16], to[:]) >= 0 {
					return
				}
				var r Row
				r.decode(b)
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func (x *Index) close() error { return x.file.close() }
