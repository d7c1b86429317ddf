package delivery

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct {
		in, want string
		limit    int
	}{
		{"sold out", "sold out", 512},
		{"two\r\nlines\tand  spaces \n", "two lines and spaces", 512},
		{"\x1b[31mred\x00", "[31mred", 512},
		{"bad \xff bytes", "bad � bytes", 512},
		{"礼物礼物", "礼物", 8},
		{"a b", "a", 2},
		{"a\u2028b\u0085c", "a b c", 512},
		{"", "", 512},
	} {
		if got := clean(c.in, c.limit); got != c.want {
			t.Errorf("clean(%q, %d): got %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("two\r\nlines \xff", 20)
	f.Add(strings.Repeat("\xff", 9), 8)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		got := clean(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("clean(%q, %d): got %q", s, limit, got)
		}
	})
}

func TestLookUp(t *testing.T) {
	value, ok := decode([]byte(`{"a":{"b":[{"c":"deep"},7],"n":null},"x.y":1}`))
	if !ok {
		t.Fatal("not decoded")
	}
	for path, want := range map[string]bool{
		"a": true, "a.b": true, "a.b.0.c": true, "a.b.1": true,
		"a.b.2": false, "a.b.-1": false, "a.b.x": false, "a.n": false, "a.n.x": false, "z": false, "": false, ".": false, "x.y": false,
	} {
		if _, got := lookUp(value, path); got != want {
			t.Errorf("%q: got %v, want %v", path, got, want)
		}
	}
}

func TestMark(t *testing.T) {
	for text, want := range map[string]struct {
		mark string
		ok   bool
	}{
		`{}`:                         {"", true},
		`{"r":null}`:                 {"", true},
		`{"r":"R-1"}`:                {"R-1", true},
		`{"r":12345678901234567890}`: {"12345678901234567890", true},
		`{"r":{}}`:                   {"", false},
		`{"r":true}`:                 {"", false},
		`{"r":"a\nb"}`:               {"", false},
		`{"r":"\ud800"}`:             {"", false},
		`{"r":"` + strings.Repeat("x", 256) + `"}`: {strings.Repeat("x", 256), true},
		`{"r":"` + strings.Repeat("x", 257) + `"}`: {"", false},
		`[1]`:  {"", true},
		`"r"`:  {"", true},
		`null`: {"", true},
	} {
		value, ok := decode([]byte(text))
		if !ok {
			t.Fatalf("%s: not decoded", text)
		}
		if got, ok := mark(value, "r"); got != want.mark || ok != want.ok {
			t.Errorf("%.40s: got %q, %v; want %q, %v", text, got, ok, want.mark, want.ok)
		}
	}
}

func TestAmount(t *testing.T) {
	for text, want := range map[string]int64{
		`{"a":500}`: 500, `{"a":0}`: 0, `{"a":-5}`: -5, `{"a":9223372036854775807}`: 1<<63 - 1,
	} {
		value, _ := decode([]byte(text))
		if got := amount(value, "a"); got == nil || *got != want {
			t.Errorf("%s: got %v, want %d", text, got, want)
		}
	}
	for _, text := range []string{`{}`, `{"a":null}`, `{"a":"500"}`, `{"a":5.0}`, `{"a":5e2}`, `{"a":9223372036854775808}`, `7`} {
		value, _ := decode([]byte(text))
		if got := amount(value, "a"); got != nil {
			t.Errorf("%s: got %d, want none", text, *got)
		}
	}
}
