package fallbacklog

import (
	"fmt"
	"testing"

	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func TestFilesInUseAreNeverClosed(t *testing.T) {
	d := crashdisk.New(1)
	if err := d.MkdirAll("/log"); err != nil {
		t.Fatal(err)
	}
	name := func(n uint32) string { return fmt.Sprintf("/log/%d", n) }
	const segments = 3 * maxFiles
	for n := range uint32(segments) {
		f, err := d.Create(name(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{byte(n)}, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	f := files{open: func(n uint32) (disk.File, error) { return d.OpenRead(name(n)) }}
	defer f.close()
	read := func(h *heldFile) {
		t.Helper()
		var b [1]byte
		if _, err := h.ReadAt(b[:], 0); err != nil || b[0] != byte(h.segment) {
			t.Fatalf("segment %d: read %d, %v", h.segment, b[0], err)
		}
	}
	var kept []*heldFile
	for n := range uint32(segments) {
		h, err := f.acquire(n)
		if err != nil {
			t.Fatal(err)
		}
		read(h)
		if n%2 == 0 {
			kept = append(kept, h)
		} else {
			f.release(h)
		}
	}
	for _, h := range kept {
		read(h)
		f.release(h)
	}
	if len(f.held) > maxFiles {
		t.Errorf("%d files are held, want at most %d", len(f.held), maxFiles)
	}
}
