package demo

import (
	"os"
	"path/filepath"
	"testing"
)

// A process that cannot listen says so in the place of where it listens.
func TestHeard(t *testing.T) {
	var said struct{ Listening string }
	if err := heard([]byte(`{"listening":"http://127.0.0.1:1"}`+"\n"), &said); err != nil || said.Listening != "http://127.0.0.1:1" {
		t.Errorf("got %q, %v", said.Listening, err)
	}
	if err := heard([]byte(`{"error":{"code":"failed","message":"127.0.0.1:1 is in use"}}`+"\n"), &said); err == nil || err.Error() != "127.0.0.1:1 is in use" {
		t.Errorf("got %v, want what the process said", err)
	}
	if err := heard([]byte("panic: no JSON\n"), &said); err == nil {
		t.Error("a line that is no document was taken for one")
	}
}

func TestLastWords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server.log")
	for text, want := range map[string]string{"": "none", "one\n": "one", "one\ntwo\n\n": "two"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastWords(file); got != want {
			t.Errorf("of %q: got %q, want %q", text, got, want)
		}
	}
}
