package delivery

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what of an answer is kept, in bytes.
const (
	maxReason = 512 // of a reason; the rest is cut
	maxCode   = 64  // of a code; the rest is cut
	maxMark   = 256 // of a reference or voucher; a longer one cannot be read
)

// paths say where an answer holds its fields: names with dots between them, a
// number for a place in a list ("data.vouchers.0.code").
type paths struct {
	reference, voucher, amount, code, reason, state string
}

// decode reads exactly one JSON value and keeps numbers as they were written.
func decode(text []byte) (any, bool) {
	if !utf8.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	return value, true
}

// lookUp follows a path. A field that is null is not there.
func lookUp(value any, path string) (any, bool) {
	for step := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, value != nil
}

// mark reads a reference or voucher: it is handed on exactly, so what cannot be
// (too long, damaged, no text) makes the answer unreadable. A field that is not
// there is an empty mark.
func mark(value any, path string) (string, bool) {
	found, ok := lookUp(value, path)
	if !ok {
		return "", true
	}
	var s string
	switch v := found.(type) {
	case string:
		s = v
	case json.Number:
		s = v.String()
	default:
		return "", false
	}
	if len(s) > maxMark {
		return "", false
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return "", false
		}
	}
	return s, true
}

// amount reads a whole number; nil where there is none. A fraction is in a unit
// that the contract does not speak of, so it is no amount either.
func amount(value any, path string) *int64 {
	found, _ := lookUp(value, path)
	number, ok := found.(json.Number)
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// words reads a code or reason for people and for logs.
func words(value any, path string, limit int) string {
	found, _ := lookUp(value, path)
	switch v := found.(type) {
	case string:
		return clean(v, limit)
	case json.Number:
		return clean(v.String(), limit)
	}
	return ""
}

// clean makes s fit for a log line: valid UTF-8, no control characters, at most
// limit bytes.
func clean(s string, limit int) string {
	// A rune may grow from one byte to three, so look at no more than needed.
	if len(s) > 4*limit {
		s = s[:4*limit]
	}
	var out strings.Builder
	space := false
	for _, r := range s {
		if unicode.IsControl(r) || unicode.IsSpace(r) || r == '\u2028' || r == '\u2029' {
			space = out.Len() > 0
			continue
		}
		need := utf8.RuneLen(r)
		if space {
			need++
		}
		if out.Len()+need > limit {
			break
		}
		if space {
			out.WriteByte(' ')
			space = false
		}
		out.WriteRune(r)
	}
	return out.String()
}
