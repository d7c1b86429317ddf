package producer

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// segment is a set of users by number.
type segment interface {
	Contains(user uint64) bool
}

// narrow is a set of 32-bit numbers.
type narrow struct{ *roaring.Bitmap }

func (n narrow) Contains(user uint64) bool {
	return user <= math.MaxUint32 && n.Bitmap.Contains(uint32(user))
}

// Cookies of the 32-bit format, without and with run containers. A 64-bit bitmap
// begins with the number of its 32-bit ones instead.
const (
	cookieNoRuns = 12346
	cookieRuns   = 12347
)

// loadSegment reads a bitmap in the portable Roaring format.
func loadSegment(path string) (segment, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if s, err := parseSegment(b); err == nil {
		return s, nil
	} else {
		return nil, fmt.Errorf("%s: %w; want a bitmap in the portable Roaring format, 32-bit or 64-bit", path, err)
	}
}

func parseSegment(b []byte) (s segment, err error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("is no Roaring bitmap: it has %d bytes", len(b))
	}
	cookie := binary.LittleEndian.Uint32(b)
	if cookie == cookieNoRuns || cookie&0xFFFF == cookieRuns {
		if s, err = parseNarrow(b); err == nil {
			return s, nil
		}
	}
	// A 64-bit bitmap may have as many parts as a cookie's number.
	if wide, wideErr := parseWide(b); wideErr == nil {
		return wide, nil
	} else if err == nil {
		err = wideErr
	}
	return nil, err
}

func parseNarrow(b []byte) (s segment, err error) {
	defer recovered(&err)
	bitmap := roaring.New()
	n, err := bitmap.FromBuffer(b)
	if err == nil && n != int64(len(b)) {
		err = fmt.Errorf("has %d bytes behind its bitmap", int64(len(b))-n)
	}
	if err == nil && !bitmap.IsEmpty() {
		err = bitmap.Validate()
	}
	if err != nil {
		return nil, err
	}
	return narrow{bitmap}, nil
}

func parseWide(b []byte) (s segment, err error) {
	defer recovered(&err)
	// Each part takes its key and a header; the library allocates what the number
	// of parts says before it reads any.
	if parts := binary.LittleEndian.Uint64(b); parts > uint64(len(b))/12 {
		return nil, fmt.Errorf("is no Roaring bitmap: it begins with % x", b[:8])
	}
	bitmap := roaring64.New()
	n, err := bitmap.FromUnsafeBytes(b)
	if err == nil && n != int64(len(b)) {
		err = fmt.Errorf("has %d bytes behind its bitmap", int64(len(b))-n)
	}
	if err == nil && !bitmap.IsEmpty() {
		err = bitmap.Validate()
	}
	if err != nil {
		return nil, err
	}
	return bitmap, nil
}

// recovered turns a panic of the bitmap library, which trusts the sizes in a
// file, into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("is no Roaring bitmap: %v", p)
	}
}
