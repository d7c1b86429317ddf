package fallbacklog

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in one node's log: the segment's number in the upper 32
// bits, the offset of a frame in the lower. Positions order records as they were
// appended. The zero Position is before every record.
type Position uint64

// At makes the position of an offset in a segment.
func At(segment, offset uint32) Position { return Position(segment)<<32 | Position(offset) }

// Segment is the number of the segment.
func (p Position) Segment() uint32 { return uint32(p >> 32) }

// Offset is the offset of the frame in its segment, in bytes.
func (p Position) Offset() uint32 { return uint32(p) }

// Short reports whether a log whose Tip is p has lost its end: it is known to have
// reached the other position. What is reached may be the beginning of a segment in
// which nothing was written; that one is made again whenever the log is opened.
func (p Position) Short(reached Position) bool {
	if reached.Offset() <= headerSize && p.Offset() > headerSize {
		return p.Segment()+1 < reached.Segment()
	}
	return p < reached
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Segment(), p.Offset()) }

// MarshalText gives "segment:offset".
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads "segment:offset".
func (p *Position) UnmarshalText(text []byte) error {
	q, err := ParsePosition(string(text))
	if err == nil {
		*p = q
	}
	return err
}

// ParsePosition reads "segment:offset".
func ParsePosition(s string) (Position, error) {
	segment, offset, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(segment, 10, 32)
	m, err2 := strconv.ParseUint(offset, 10, 32)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no position: want segment:offset, like 3:1024", s)
	}
	return At(uint32(n), uint32(m)), nil
}
