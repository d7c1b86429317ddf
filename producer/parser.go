package producer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"manna/gift"
)

// maxDepth bounds how deep objects and arrays may nest.
const maxDepth = 32

// parser reads JSON strictly: RFC 8259 with valid UTF-8, no duplicate keys, no
// lone surrogates, bounded depth. The strings it gives are parts of its input
// wherever they hold no escapes, so reading a claim allocates next to nothing.
// encoding/json takes duplicate and differently cased keys and mends invalid
// UTF-8 silently.
type parser struct {
	text string
	at   int
	end  int      // of the value that is being skipped, where it is bounded
	keys []string // of the objects that are being skipped
}

func (p *parser) fail(format string, args ...any) error {
	return gift.Errorf(gift.BadRequest, "the body is not valid JSON at byte %d: %s", p.at, fmt.Sprintf(format, args...))
}

// next skips white space and gives the next byte, 0 at the end.
func (p *parser) next() byte {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		case 0:
			return 1 // a byte that begins nothing, and not the end
		default:
			return c
		}
	}
	return 0
}

// expect consumes one punctuation mark.
func (p *parser) expect(c byte) error {
	switch got := p.next(); got {
	case c:
		p.at++
		return nil
	case 0:
		return p.fail("it ends where %q belongs", c)
	default:
		return p.fail("%s where %q belongs", p.here(), c)
	}
}

// here shows the character at hand.
func (p *parser) here() string {
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return strconv.QuoteRune(r)
}

// done fails where something follows.
func (p *parser) done() error {
	if p.next() != 0 {
		return p.fail("%s follows the end of the document", p.here())
	}
	return nil
}

// member begins the next member of an object after its '{' and gives its key;
// more is false when the object has ended.
func (p *parser) member(first bool) (key string, more bool, err error) {
	c := p.next()
	if c == '}' {
		p.at++
		return "", false, nil
	}
	if !first {
		if err := p.expect(','); err != nil {
			return "", false, err
		}
		c = p.next()
	}
	if c != '"' {
		return "", false, p.fail("a key in quotes is missing")
	}
	if key, err = p.str(); err != nil {
		return "", false, err
	}
	return key, true, p.expect(':')
}

// element begins the next element of an array after its '['.
func (p *parser) element(first bool) (more bool, err error) {
	c := p.next()
	if c == ']' && first {
		p.at++
		return false, nil
	}
	if first {
		return true, nil
	}
	if c == ']' {
		p.at++
		return false, nil
	}
	return true, p.expect(',')
}

// str reads a string, which the next byte begins.
func (p *parser) str() (string, error) {
	p.at++
	start := p.at
	ascii := true
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[start:p.at]
			if !ascii && !utf8.ValidString(s) {
				p.at = start
				return "", p.fail("the string is not UTF-8")
			}
			p.at++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.fail("the control character %U stands in a string", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
		p.at++
	}
	return "", p.fail("it ends inside a string")
}

// escaped reads on at the first backslash of a string that began at start.
func (p *parser) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.text[start:p.at])
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			if !utf8.ValidString(b.String()) {
				p.at = start
				return "", p.fail("the string is not UTF-8")
			}
			p.at++
			return b.String(), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			continue
		case c < ' ':
			return "", p.fail("the control character %U stands in a string", c)
		}
		b.WriteByte(c)
		p.at++
	}
	return "", p.fail("it ends inside a string")
}

// escape reads one escape sequence, a surrogate pair as one.
func (p *parser) escape() (rune, error) {
	if p.at+1 >= len(p.text) {
		return 0, p.fail("it ends inside a string")
	}
	if c := p.text[p.at+1]; c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, p.fail("there is no escape \\%c", c)
		}
		p.at += 2
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, err := p.unit()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if strings.HasPrefix(p.text[p.at:], `\u`) {
		low, err := p.unit()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, p.fail("half of a surrogate pair")
}

// unit reads \uXXXX.
func (p *parser) unit() (rune, error) {
	if p.at+6 > len(p.text) {
		return 0, p.fail("it ends inside an escape")
	}
	n, err := strconv.ParseUint(p.text[p.at+2:p.at+6], 16, 16)
	if err != nil {
		return 0, p.fail("an escape \\u without four hexadecimal digits")
	}
	p.at += 6
	return rune(n), nil
}

// raw checks the value at hand and gives its bytes as they came, at most max.
func (p *parser) raw(max int) (string, error) {
	p.next()
	start := p.at
	p.end = start + max
	if err := p.skip(maxDepth); err != nil {
		return "", err
	}
	return p.text[start:p.at], p.bounded()
}

// bounded fails where the value that is being skipped has become too long. Seen
// at every key, it also bounds the work that looking for duplicate keys takes.
func (p *parser) bounded() error {
	if p.at > p.end {
		return errTooLong
	}
	return nil
}

var errTooLong = gift.Errorf(gift.BadRequest, "the value is too long")

// skip checks the value at hand.
func (p *parser) skip(depth int) error {
	if depth == 0 {
		return p.fail("it nests deeper than %d levels", maxDepth)
	}
	switch c := p.next(); {
	case c == '{':
		return p.skipObject(depth)
	case c == '[':
		p.at++
		for first := true; ; first = false {
			more, err := p.element(first)
			if err != nil || !more {
				return err
			}
			if err := p.skip(depth - 1); err != nil {
				return err
			}
		}
	}
	return p.skipScalar()
}

// skipScalar checks the value at hand, which is no object and no array.
func (p *parser) skipScalar() error {
	switch c := p.next(); {
	case c == '"':
		_, err := p.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return p.skipNumber()
	case c == 0:
		return p.fail("it ends where a value belongs")
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(p.text[p.at:], word) {
			p.at += len(word)
			return nil
		}
	}
	return p.fail("%s begins no value", p.here())
}

func (p *parser) skipObject(depth int) error {
	p.at++
	base := len(p.keys)
	for first := true; ; first = false {
		key, more, err := p.member(first)
		if err != nil {
			return err
		}
		if !more {
			p.keys = p.keys[:base]
			return nil
		}
		if err := p.bounded(); err != nil {
			return err
		}
		if slices.Contains(p.keys[base:], key) {
			return p.fail("the key %s is there twice", quoted(key))
		}
		p.keys = append(p.keys, key)
		if err := p.skip(depth - 1); err != nil {
			return err
		}
	}
}

// maxPassed bounds how deep what is passed over may nest.
const maxPassed = 1000

// pass goes past the value at hand, whatever is wrong with it, as long as it is JSON. Its
// keys may be there twice: what it does takes time in proportion to the value's length.
func (p *parser) pass() error {
	var open []byte // what begins the objects and arrays that have not ended
	for {
		begun := false
		switch c := p.next(); {
		case c != '{' && c != '[':
			if err := p.skipScalar(); err != nil {
				return err
			}
		case len(open) == maxPassed:
			return p.fail("it nests deeper than %d levels", maxPassed)
		default:
			p.at++
			open, begun = append(open, c), true
		}
		for more := false; !more; begun = false {
			if len(open) == 0 {
				return nil
			}
			var err error
			if last := len(open) - 1; open[last] == '{' {
				_, more, err = p.member(begun)
			} else {
				more, err = p.element(begun)
			}
			if err != nil {
				return err
			}
			if !more {
				open = open[:len(open)-1]
			}
		}
	}
}

// skipNumber checks -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?.
func (p *parser) skipNumber() error {
	p.accept("-")
	if !p.accept("0") && p.digits() == 0 {
		return p.fail("a number without digits")
	}
	if p.accept(".") && p.digits() == 0 {
		return p.fail("a number without digits behind its point")
	}
	if p.accept("eE") {
		p.accept("+-")
		if p.digits() == 0 {
			return p.fail("a number without digits in its exponent")
		}
	}
	return nil
}

// accept consumes the byte at hand if it is one of set.
func (p *parser) accept(set string) bool {
	if p.at < len(p.text) && strings.IndexByte(set, p.text[p.at]) >= 0 {
		p.at++
		return true
	}
	return false
}

func (p *parser) digits() int {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at - start
}
