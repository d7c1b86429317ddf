package fallbacklog_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk/crashdisk"
)

// killed is a log that was killed with a few records in its first segment, which
// is active still, and the history of its appends. Each was a commit of its own.
func killed(t *testing.T, appends int) (*crashdisk.Disk, *history) {
	t.Helper()
	d := crashdisk.New(3)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	h := newHistory()
	for i := range appends {
		if err := h.append(l, 1+i%2); err != nil {
			t.Fatal(err)
		}
	}
	dead := d.Kill()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dead, h
}

const active = "log/00000001.seg"

func content(t *testing.T, d *crashdisk.Disk, path string) []byte {
	t.Helper()
	b, err := d.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// before is what has to be there of a segment that is sound up to offset cut.
func (h *history) before(b []byte, cut int) *history {
	kept := h.clone()
	for n, t := range h.appends {
		last := 0
		for _, f := range fallbacklog.Frames(b) {
			if f.Offset == int(t.at[t.records-1].Offset()) {
				last = f.End
			}
		}
		if last > cut {
			kept.appends[n] = told{records: t.records, state: refused}
		}
	}
	return kept
}

// TestTornAtEveryByte tears the active segment of a killed log at each of its
// bytes: the file ends there, or reads as zeros or as noise from there on.
func TestTornAtEveryByte(t *testing.T) {
	dead, h := killed(t, 5)
	whole := content(t, dead, active)
	frames := fallbacklog.Frames(whole)
	last := frames[len(frames)-1]
	if last.Kind != fallbacklog.KindBatch || last.End-last.Offset != fallbacklog.BatchFrame {
		t.Fatalf("the idle log does not end with an empty batch, but with %+v", last)
	}
	noise := make([]byte, len(whole))
	rand.NewChaCha8([32]byte{1}).Read(noise)
	tears := map[string]func(b []byte, cut int) []byte{
		"cut":   func(b []byte, cut int) []byte { return b[:cut] },
		"zeros": func(b []byte, cut int) []byte { clear(b[cut:]); return b },
		"noise": func(b []byte, cut int) []byte { copy(b[cut:], noise[cut:cut+min(700, len(b)-cut)]); return b },
	}
	for name, tear := range tears {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for cut := fallbacklog.HeaderSize; cut <= last.End; cut++ {
				d := dead.Kill()
				torn := tear(bytes.Clone(whole), cut)
				if err := d.WriteFile(active, torn); err != nil {
					t.Fatal(err)
				}
				l, err := fallbacklog.Open(small(d))
				if err != nil {
					t.Fatalf("at %d: %v", cut, err)
				}
				// Noise may happen to go on as the segment did.
				intact := cut
				for intact < len(torn) && torn[intact] == whole[intact] {
					intact++
				}
				if err := h.before(whole, intact).check(l); err != nil {
					t.Fatalf("at %d: %v", cut, err)
				}
				if err := l.Close(); err != nil {
					t.Fatalf("at %d: %v", cut, err)
				}
				wantAside(t, d, torn)
			}
		})
	}
}

// wantAside checks that what recovery cut from a torn segment is kept.
func wantAside(t *testing.T, d *crashdisk.Disk, torn []byte) {
	t.Helper()
	end := fallbacklog.HeaderSize
	sealed, err := d.ReadFile(active)
	if err == nil {
		// Without records nothing was sealed, and the number is free again.
		if f := fallbacklog.Frames(sealed); bytes.Equal(sealed[:fallbacklog.HeaderSize], torn[:fallbacklog.HeaderSize]) && len(f) > 0 {
			end = f[len(f)-1].Offset
		}
	}
	var want []byte
	if end < len(torn) {
		want = bytes.TrimRight(torn[end:], "\x00")
	}
	names, err := d.List("log")
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, name := range names {
		if strings.HasSuffix(name, ".torn") {
			got = content(t, d, filepath.Join("log", name))
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("kept aside %d bytes, want %d", len(got), len(want))
	}
}

// TestASecondTearIsKeptBesideTheFirst tears two segments of the same number.
func TestASecondTearIsKeptBesideTheFirst(t *testing.T) {
	d, _ := killed(t, 1)
	for i := range 3 {
		torn := content(t, d, active)
		clear(torn[fallbacklog.HeaderSize:])
		copy(torn[fallbacklog.HeaderSize:], fmt.Sprint("torn ", i))
		if err := d.WriteFile(active, torn); err != nil {
			t.Fatal(err)
		}
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		dead := d.Kill()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		d = dead
	}
	names, err := d.List("log")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(strings.Join(names, " "), ".torn"); got != 3 {
		t.Fatalf("%d tails were kept, want 3: %v", got, names)
	}
}
