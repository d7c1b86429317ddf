package ledger

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"manna/gift"
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

// Bounds are what every entry of the page that begins behind the cursor is below: its
// time, Unix nanoseconds, and among those of that time its key.
func (c Cursor) Bounds() (nanos int64, key string) {
	if c.IsZero() {
		return math.MaxInt64, ""
	}
	return c.Time.UnixNano(), c.Key
}

// ClaimBounds is Bounds for a list of claims. Errors: ErrCursor.
func (c Cursor) ClaimBounds() (nanos int64, id gift.ClaimID, err error) {
	nanos, key := c.Bounds()
	if !c.IsZero() {
		if id, err = gift.ParseClaimID(key); err != nil {
			err = fmt.Errorf("%w: %w", ErrCursor, err)
		}
	}
	return nanos, id, err
}

// Cut makes a page of at most limit entries out of one that may have more, and gives
// the cursor of the next; zero where there is none.
func Cut[E interface{ cursor() Cursor }](entries []E, limit int) (page []E, next Cursor) {
	if len(entries) <= limit {
		return entries, Cursor{}
	}
	return entries[:limit], entries[limit-1].cursor()
}

func (c ClaimRow) cursor() Cursor { return Cursor{Time: c.ClaimedAt, Key: c.ID.String()} }

func (r Run) cursor() Cursor { return Cursor{Time: r.Started, Key: r.ID} }

func (e Entry) cursor() Cursor { return Cursor{Time: e.Time, Key: e.Key} }
