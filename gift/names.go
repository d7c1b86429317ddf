package gift

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Bounds on what callers and configurations may write.
const (
	MaxName   = 64  // bytes of a campaign's, scene's, stage's, gift's, item's or partner's name
	MaxUser   = 128 // bytes of a user id
	MaxTarget = 4096
	MaxItems  = 32 // items of one gift
	MaxStages = 64 // stages of one scene
	MaxScenes = 1024
)

// CheckName reports why s cannot name a campaign, scene, stage, gift, item,
// partner or platform. Names are used in file names, metrics and ids, so they
// keep to letters, digits, '.', '_' and '-', and begin with a letter or digit.
func CheckName(s string) error {
	if s == "" {
		return fmt.Errorf("is empty")
	}
	if len(s) > MaxName {
		return fmt.Errorf("is longer than %d bytes", MaxName)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return fmt.Errorf("%q: a name has letters, digits, '.', '_' and '-', and begins with a letter or digit", s)
		}
	}
	return nil
}

// CheckUser reports why s cannot be a user id: user ids are the caller's and may
// be any text of 1 to MaxUser bytes that CheckText takes.
func CheckUser(s string) error {
	if s == "" {
		return fmt.Errorf("is empty")
	}
	if len(s) > MaxUser {
		return fmt.Errorf("is longer than %d bytes", MaxUser)
	}
	return CheckText(s)
}

// CheckText reports why s cannot be shown to people as it is: it is no UTF-8, or
// holds a character that nobody sees. Control characters and those that turn the
// direction of writing would make a screen show something else than is there, and
// invisible ones give one person several spellings that look alike.
func CheckText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("is not UTF-8")
	}
	for _, r := range s {
		if r < utf8.RuneSelf && r >= ' ' && r != 0x7f {
			continue // as nearly all are
		}
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return fmt.Errorf("holds the character %U, which nobody sees: leave it out", r)
		}
	}
	return nil
}
