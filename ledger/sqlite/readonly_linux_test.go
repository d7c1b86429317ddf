package sqlite

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"manna/internal/disk"
)

// asNobody runs do without root's right to write everywhere.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	ended := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine: it is never unlocked.
		runtime.LockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			ended <- err
			return
		}
		do()
		ended <- nil
	}()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	for name, prepare := range map[string]func(dir string) (ledger string){
		"empty":   func(dir string) string { return dir },
		"missing": func(dir string) string { return filepath.Join(dir, "sub", "dir") },
		"with a ledger": func(dir string) string {
			l, _ := openIn(t, dir)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{DerivedFile, KeptFile} {
				if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			writeProtected := t.TempDir()
			// Its parent is closed to others; nobody shall get as far as it.
			if err := os.Chmod(filepath.Dir(writeProtected), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := prepare(writeProtected)
			if err := os.Chmod(writeProtected, 0o555); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(writeProtected, 0o755) // for the clean-up
			var err error
			asNobody(t, func() { _, err = Open(t.Context(), Options{Dir: dir, Node: "a", Disk: disk.OS{}}) })
			wantLine(t, err, nil, "cannot write the ledger in "+dir, "make it writable")
			t.Log(err)
		})
	}
}
