package credential

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Error is what is wrong with a secret or a key, and what to do about it.
type Error struct{ Problem, Remedy string }

func (e *Error) Error() string { return e.Problem + ": " + e.Remedy }

func wrong(remedy, format string, args ...any) *Error {
	return &Error{Problem: fmt.Sprintf(format, args...), Remedy: remedy}
}

const (
	secretPrefix = "whsec_"
	// leastSecret is the size in bytes below which a secret can be guessed.
	leastSecret = 24

	makeSecret = "make a new one: openssl rand -hex 32"
)

// Secret reads a secret that signs webhooks: whsec_ and base64 as Standard
// Webhooks has it, or the key's own bytes. How strong it is, Strong says.
func Secret(text string) ([]byte, error) {
	if text == "" {
		return nil, wrong(makeSecret, "is empty")
	}
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, wrong("copy it whole, or "+makeSecret, "what follows %s is not base64", secretPrefix)
	}
	return key, nil
}

// Strong reports why a key that Secret gave can be guessed.
func Strong(key []byte) error {
	if len(key) < leastSecret {
		return wrong(makeSecret, "its key has %d bytes, and one below %d can be guessed", len(key), leastSecret)
	}
	return nil
}
