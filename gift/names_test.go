package gift_test

import (
	"fmt"
	"strings"
	"testing"

	"manna/gift"
)

func TestTextThatNobodySeesIsRefused(t *testing.T) {
	for _, r := range []rune{
		0, '\t', '\n', 0x1b, 0x7f, 0x85, // controls
		0xad, 0x200b, 0x200d, 0x200e, 0x202e, 0x2066, 0x2069, 0xfeff, 0xe0041, // formats, those of bidi among them
		0x2028, 0x2029, // line and paragraph
		0x115f, 0x3164, 0x034f, 0xfe0f, 0xe0100, // blank letters and selectors
	} {
		s := "a" + string(r) + "b"
		for name, err := range map[string]error{"text": gift.CheckText(s), "user": gift.CheckUser(s)} {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%U", r)) {
				t.Errorf("%s with %U: got %v", name, r, err)
			}
		}
		if err := gift.CheckName(s); err == nil {
			t.Errorf("a name with %U is taken", r)
		}
	}
	for _, s := range []string{"a", "ü/1", "名前", "a b", "user@example.org", "naïve", "ｱ", "مرحبا", "🎁", strings.Repeat("u", gift.MaxUser)} {
		if err := gift.CheckUser(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "\xff", strings.Repeat("u", gift.MaxUser+1)} {
		if err := gift.CheckUser(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
