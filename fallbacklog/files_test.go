package fallbacklog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// filesOf makes a disk with files that hold their numbers, and files that keep most of
// them open.
func filesOf(t *testing.T, n, most int, rank func(i int) uint32) (*files, []*file) {
	t.Helper()
	d := crashdisk.New(1)
	if err := d.MkdirAll("/log"); err != nil {
		t.Fatal(err)
	}
	keep := &files{most: most}
	all := make([]*file, n)
	for i := range all {
		path := fmt.Sprintf("/log/%d", i)
		if err := d.WriteFile(path, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		all[i] = keep.file(rank(i), func() (disk.File, error) { return d.OpenRead(path) })
	}
	return keep, all
}

func equal(int) uint32 { return 0 }

// wantNumber reads a file that has been acquired.
func wantNumber(t *testing.T, f disk.File, i int) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil || b[0] != byte(i) {
		t.Errorf("file %d: read %d, %v", i, b[0], err)
	}
}

func TestFilesInUseAreNeverClosed(t *testing.T) {
	keep, all := filesOf(t, 3*maxFiles, maxFiles, equal)
	kept := make(map[int]disk.File)
	for i, f := range all {
		open, err := f.acquire()
		if err != nil {
			t.Fatal(err)
		}
		wantNumber(t, open, i)
		if i%2 == 0 {
			kept[i] = open
		} else {
			f.release()
		}
	}
	for i, open := range kept {
		wantNumber(t, open, i)
		all[i].release()
	}
	if len(keep.held) > maxFiles {
		t.Errorf("%d files are held, want at most %d", len(keep.held), maxFiles)
	}
}

// TestWhichFilesStayOpen: of equals those that were used last, and else those of the
// highest rank, however often the others are used.
func TestWhichFilesStayOpen(t *testing.T) {
	for name, c := range map[string]struct {
		rank func(int) uint32
		want []int
	}{
		"of one rank":     {equal, []int{0, 1, 2, 3}},
		"of rising ranks": {func(i int) uint32 { return uint32(i) }, []int{0, 7, 8, 9}}, // the one read last is not closed before there is another
	} {
		keep, all := filesOf(t, 10, 4, c.rank)
		for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 2, 1, 0} {
			open, err := all[i].acquire()
			if err != nil {
				t.Fatal(err)
			}
			wantNumber(t, open, i)
			all[i].release()
		}
		var got []int
		for i, f := range all {
			if slices.Contains(keep.held, f) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: open are %v, want %v", name, got, c.want)
		}
	}
}

// TestClosedFilesAreReadToTheEnd: who has acquired a file before may go on.
func TestClosedFilesAreReadToTheEnd(t *testing.T) {
	keep, all := filesOf(t, 2, 4, equal)
	open, err := all[0].acquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(all[0].close(), all[1].close()); err != nil {
		t.Fatal(err)
	}
	wantNumber(t, open, 0)
	all[0].release()
	for _, f := range all {
		if _, err := f.acquire(); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v, want ErrClosed", err)
		}
	}
	if len(keep.held) > 0 {
		t.Errorf("%d files are open after close", len(keep.held))
	}
}

// TestFilesAreShared by many who read them at once: each reads its own.
func TestFilesAreShared(t *testing.T) {
	keep, all := filesOf(t, 40, 4, equal)
	var work sync.WaitGroup
	for who := range 8 {
		work.Go(func() {
			for n := range 400 {
				i := (n*7 + who*5) % len(all)
				open, err := all[i].acquire()
				if err != nil {
					t.Error(err)
					return
				}
				wantNumber(t, open, i)
				all[i].release()
			}
		})
	}
	work.Wait()
	if len(keep.held) > 4 {
		t.Errorf("%d files are held, want at most 4", len(keep.held))
	}
}
