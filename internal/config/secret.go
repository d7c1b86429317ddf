package config

import (
	"fmt"
	"io"
)

// Secret is a text that prints as "[redacted]" however it is printed; string(s)
// is the text itself.
type Secret string

const redacted = "[redacted]"

// String gives "[redacted]", or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString keeps %#v from printing the text.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// Format keeps every other verb, %x and %d too, from printing the text.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'v' && f.Flag('#') {
		text = s.GoString()
	}
	_, _ = io.WriteString(f, text)
}

// MarshalText gives "[redacted]": JSON, YAML and slog go through it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
