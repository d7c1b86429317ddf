package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cursor is a place in a list that is sorted by time, then key. A page begins
// behind it. The zero Cursor is before the first entry.
type Cursor struct {
	Time time.Time
	Key  string
}

// maxCursor bounds a cursor's text in bytes: users hand cursors in.
const maxCursor = 256

// IsZero reports whether the cursor is before the first entry.
func (c Cursor) IsZero() bool { return c.Time.IsZero() && c.Key == "" }

// String gives the text that ParseCursor reads; "" for the zero Cursor.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	return strconv.FormatInt(c.Time.UnixNano(), 10) + "~" + c.Key
}

// MarshalText gives String's text.
func (c Cursor) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads String's text.
func (c *Cursor) UnmarshalText(text []byte) error {
	p, err := ParseCursor(string(text))
	if err == nil {
		*c = p
	}
	return err
}

// ParseCursor reads a cursor's text. It fails with ErrCursor.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	nanos, key, ok := strings.Cut(s, "~")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if !ok || err != nil || key == "" || len(s) > maxCursor {
		return Cursor{}, fmt.Errorf("%.40q: %w", s, ErrCursor)
	}
	return Cursor{Time: time.Unix(0, n).UTC(), Key: key}, nil
}
