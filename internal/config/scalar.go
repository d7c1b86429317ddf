package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"manna/gift"
)

// The getters below write into their target only what they could read; they
// report the rest and leave the default.

// text reads a text with its variables.
func (o *object) text(name string, into *string) bool {
	v, ok := o.get(name)
	return ok && v.text(into)
}

// secret reads a text that is never shown.
func (o *object) secret(name string, into *Secret) bool {
	var s string
	v, ok := o.get(name)
	if !ok || !v.text(&s) {
		return false
	}
	*into = Secret(s)
	return true
}

func (v value) text(into *string) bool {
	s, ok := v.scalar("write one text")
	if !ok {
		return false
	}
	out, ok := v.expand(s)
	if !ok {
		return false
	}
	if strings.TrimSpace(out) == "" {
		if strings.Contains(s, "${") {
			v.fail("set the variable before manna starts, or write the value here", "is empty: that is what the variable holds")
		} else {
			v.fail("write a value, or take the line out", "is empty")
		}
		return false
	}
	if out != s {
		v.doc.written[v.key] = s
	}
	*into = out
	return true
}

var variable = regexp.MustCompile(`\$\$\{|\$\{([^}]*)(\}?)`)

// expand puts the environment in place of ${NAME}.
func (v value) expand(s string) (string, bool) {
	ok := true
	out := variable.ReplaceAllStringFunc(s, func(found string) string {
		if found == "$${" {
			return "${"
		}
		parts := variable.FindStringSubmatch(found)
		name := parts[1]
		if parts[2] == "" || !isVariable(name) {
			v.fail("write ${NAME} with letters, digits and _, or $${ for the two signs themselves", "holds ${ that begins no variable")
			ok = false
			return ""
		}
		held, set := v.doc.lookup(name)
		if !set {
			v.fail("set "+clip(name)+" before manna starts, or write the value here", "the environment has no variable %s", clip(name))
			ok = false
		}
		return held
	})
	return out, ok
}

func isVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

const wantName = "a name has up to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit"

// name reads a gift.CheckName name.
func (v value) name(into *string) bool {
	s, ok := v.plain(wantName)
	if !ok || !v.checkName(s) {
		return false
	}
	*into = s
	return true
}

func (v value) checkName(s string) bool {
	if gift.CheckName(s) == nil {
		return true
	}
	v.fail(wantName, "%q is no name", clip(s))
	return false
}

// names reads a list of names, each once.
func (o *object) names(name string, most int, into *[]string) bool {
	v, ok := o.get(name)
	if !ok {
		return false
	}
	values, ok := v.list("write names in brackets: [a, b]")
	if !ok {
		return false
	}
	if len(values) == 0 && ok {
		v.fail("write at least one name, or take the line out", "is an empty list")
		return false
	}
	if len(values) > most {
		v.fail(fmt.Sprintf("at most %d are possible", most), "has %d names", len(values))
		return false
	}
	var list []string
	for _, e := range values {
		var s string
		if !e.name(&s) {
			continue
		}
		if slices.Contains(list, s) {
			e.fail("take one of them out", "%s is there twice", s)
			continue
		}
		list = append(list, s)
	}
	*into = list
	return true
}

// word reads one of a few words.
func (o *object) word(name string, into *string, words ...string) bool {
	v, ok := o.get(name)
	return ok && v.word(into, words...)
}

func (v value) word(into *string, words ...string) bool {
	want := "write " + oneOf(words)
	s, ok := v.plain(want)
	if !ok {
		return false
	}
	if !slices.Contains(words, s) {
		if meant := nearest(s, words); meant != "" && len(words) > 2 {
			want = "did you mean " + meant + "? " + want
		}
		v.fail(want, "%q is not possible here", clip(s))
		return false
	}
	*into = s
	return true
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// boolean reads true or false.
func (o *object) boolean(name string, into *bool) {
	var s string
	if o.word(name, &s, "true", "false") {
		*into = s == "true"
	}
}

// duration reads a time between least and most.
func (o *object) duration(name string, into *time.Duration, least, most time.Duration) bool {
	v, ok := o.get(name)
	return ok && v.duration(into, least, most)
}

func (v value) duration(into *time.Duration, least, most time.Duration) bool {
	const want = "write a number with its unit, like 500ms, 2s, 10m or 48h"
	s, ok := v.plain(want)
	if !ok {
		return false
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		v.fail(want, "%q is no duration", clip(s))
		return false
	}
	if d < least || d > most {
		v.fail(fmt.Sprintf("write a duration from %s to %s", Short(least), Short(most)), "%s is out of range", clip(s))
		return false
	}
	*into = d
	return true
}

// Short writes a duration as a configuration would: 48h, 1h12m36s, 250ms.
func Short(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// number reads a whole number between least and most.
func (o *object) number(name string, into *int64, least, most int64) bool {
	v, ok := o.get(name)
	return ok && v.number(into, least, most)
}

func (v value) number(into *int64, least, most int64) bool {
	const want = "write a whole number in digits, like 3000000"
	s, ok := v.plain(want)
	if !ok {
		return false
	}
	n, err := parseNumber(s)
	if errors.Is(err, strconv.ErrRange) || err == nil && (n < least || n > most) {
		v.fail(fmt.Sprintf("write a number from %d to %d", least, most), "%s is out of range", clip(s))
		return false
	}
	if err != nil {
		v.fail(want, "%q is no whole number", clip(s))
		return false
	}
	*into = n
	return true
}

// parseNumber reads decimal digits, 3_000_000 too. A leading zero means eight to
// some and nothing to others, so it is refused.
func parseNumber(s string) (int64, error) {
	digits := strings.ReplaceAll(s, "_", "")
	bare := strings.TrimPrefix(digits, "-")
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "_") || len(bare) > 1 && bare[0] == '0' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(digits, 10, 64)
}

// count is number for what is an int.
func (o *object) count(name string, into *int, least, most int64) bool {
	n := int64(*into)
	ok := o.number(name, &n, least, most)
	*into = int(n)
	return ok
}

// share reads a number above 0 and at most 1, or 0 where that has a meaning.
func (o *object) share(name string, into *float64, zero bool) {
	want := "write a share above 0 and at most 1, like 0.5"
	if zero {
		want = "write a share from 0 to 1, like 0.5"
	}
	v, ok := o.get(name)
	if !ok {
		return
	}
	s, ok := v.plain(want)
	if !ok {
		return
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f <= 1 || zero && f == 0) {
		v.fail(want, "%q is no share", clip(s))
		return
	}
	*into = f
}

// size reads a number of bytes between least and most.
func (o *object) size(name string, into *int64, least, most int64) {
	const want = "write a size with its unit, like 64KiB, 64MiB or 1GiB"
	v, ok := o.get(name)
	if !ok {
		return
	}
	s, ok := v.plain(want)
	if !ok {
		return
	}
	n, err := parseSize(s)
	if err != nil {
		v.fail(want, "%q is no size", clip(s))
		return
	}
	if n < least || n > most {
		v.fail(fmt.Sprintf("write a size from %s to %s", Size(least), Size(most)), "%s is out of range", clip(s))
		return
	}
	*into = n
}

var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func parseSize(s string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := parseNumber(strings.TrimSpace(number))
		if err != nil {
			return 0, err
		}
		if n < 0 || n > math.MaxInt64/u.bytes {
			return 0, strconv.ErrRange
		}
		return n * u.bytes, nil
	}
	return 0, strconv.ErrSyntax
}

// Size writes a number of bytes as a configuration would: 64MiB.
func Size(n int64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// rate reads calls per second, minute or hour.
func (v value) rate(into *gift.Rate) bool {
	const want = "write calls per second, minute or hour, like 3000/s, 900/m or 50/h"
	s, ok := v.plain(want)
	if !ok {
		return false
	}
	r, err := gift.ParseRate(s)
	if err != nil {
		remedy := want
		if n, err := parseNumber(s); err == nil && n > 0 {
			remedy = fmt.Sprintf("did you mean %s/s? %s", s, want)
		}
		v.fail(remedy+"; at most 1000000/s", "%q is no rate", clip(s))
		return false
	}
	*into = r
	return true
}

// time reads a moment with its zone, which it keeps.
func (v value) time(into *time.Time) bool {
	const want = "write date, time and zone, like 2027-02-05T20:00:00+08:00 (or Z for UTC)"
	s, ok := v.plain(want)
	if !ok {
		return false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		message := "%q is no time"
		for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
			if _, err := time.Parse(layout, s); err == nil {
				message = "%q has no zone"
			}
		}
		v.fail(want, message, clip(s))
		return false
	}
	*into = t
	return true
}
