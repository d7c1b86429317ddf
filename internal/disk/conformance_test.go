package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// onEach runs a test on every Disk there is, in an empty directory.
func onEach(t *testing.T, test func(t *testing.T, d disk.Disk, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, disk.OS{}, t.TempDir()) })
	t.Run("crashdisk", func(t *testing.T) {
		d := crashdisk.New(1)
		if err := d.MkdirAll("/data"); err != nil {
			t.Fatal(err)
		}
		test(t, d, "/data")
	})
}

func create(t *testing.T, d disk.Disk, path, content string) disk.File {
	t.Helper()
	f, err := d.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if n, err := f.WriteAt([]byte(content), 0); err != nil || n != len(content) {
		t.Fatalf("write %s: %d, %v", path, n, err)
	}
	return f
}

func read(t *testing.T, f disk.File) string {
	t.Helper()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size+1))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readPath(t *testing.T, d disk.Disk, path string) string {
	t.Helper()
	f, err := d.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return read(t, f)
}

// wantErr holds err against a sentinel and wants the path in it.
func wantErr(t *testing.T, err, want error, path string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want one that is %v", err, want)
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("error %q does not name %s", err, path)
	}
}

func TestCreateTakesANameOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		path := filepath.Join(dir, "a")
		create(t, d, path, "first")
		_, err := d.Create(path)
		wantErr(t, err, fs.ErrExist, path)
		if got := readPath(t, d, path); got != "first" {
			t.Errorf("content %q, want that of the first", got)
		}
		lost := filepath.Join(dir, "none", "a")
		_, err = d.Create(lost)
		wantErr(t, err, fs.ErrNotExist, lost)
		info, err := d.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || info.Size() != 5 || info.Name() != "a" || info.IsDir() {
			t.Errorf("stat %v %d %q", info.Mode(), info.Size(), info.Name())
		}
	})
}

func TestOpenWantsTheFile(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		path := filepath.Join(dir, "a")
		_, err := d.Open(path)
		wantErr(t, err, fs.ErrNotExist, path)
		_, err = d.OpenRead(path)
		wantErr(t, err, fs.ErrNotExist, path)
		_, err = d.Stat(path)
		wantErr(t, err, fs.ErrNotExist, path)
		if _, err := d.Open(dir); err == nil {
			t.Error("a directory opens for writing")
		}
	})
}

func TestReadAndWriteAt(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		f := create(t, d, filepath.Join(dir, "a"), "0123456789")
		if _, err := f.WriteAt([]byte("abc"), 1000); err != nil {
			t.Fatal(err)
		}
		want := "0123456789" + strings.Repeat("\x00", 990) + "abc"
		if got := read(t, f); got != want {
			t.Errorf("content %q, want %q", got, want)
		}
		if _, err := f.WriteAt([]byte("XY"), 4); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 6)
		if n, err := f.ReadAt(p, 2); n != 6 || err != nil || string(p) != "23XY67" {
			t.Errorf("read %d %q %v", n, p, err)
		}
		if n, err := f.ReadAt(p, 1000); n != 3 || err != io.EOF {
			t.Errorf("read over the end: %d %v, want 3 and EOF", n, err)
		}
		if n, err := f.ReadAt(p, 5000); n != 0 || err != io.EOF {
			t.Errorf("read behind the end: %d %v, want 0 and EOF", n, err)
		}
		if _, err := f.ReadAt(p, -1); err == nil {
			t.Error("a negative offset is read")
		}
		if _, err := f.WriteAt(p, -1); err == nil {
			t.Error("a negative offset is written")
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
	})
}

func TestAllocate(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		const size = 3<<20 + 700
		f := create(t, d, filepath.Join(dir, "a"), "head")
		for _, up := range []int64{size, size, 100, 0} {
			if err := f.Allocate(up); err != nil {
				t.Fatalf("allocate %d: %v", up, err)
			}
			if got, _ := f.Size(); got != size {
				t.Fatalf("size %d after allocate %d, want %d", got, up, size)
			}
		}
		if want := "head" + strings.Repeat("\x00", size-4); read(t, f) != want {
			t.Error("the room does not read as the head and zeros")
		}
		if _, err := f.WriteAt([]byte("tail"), size-4); err != nil {
			t.Fatal(err)
		}
		if got, _ := f.Size(); got != size {
			t.Errorf("size %d after a write into the room, want %d", got, size)
		}
		if err := f.Allocate(size + 10); err != nil {
			t.Fatal(err)
		}
		if got := read(t, f)[size-4:]; got != "tail"+strings.Repeat("\x00", 10) {
			t.Errorf("tail %q", got)
		}
	})
}

func TestTruncate(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		f := create(t, d, filepath.Join(dir, "a"), strings.Repeat("x", 2000))
		if err := f.Truncate(700); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(1500); err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, f), strings.Repeat("x", 700)+strings.Repeat("\x00", 800); got != want {
			t.Errorf("content %q", got)
		}
		if err := f.Truncate(-1); err == nil {
			t.Error("a negative size is taken")
		}
	})
}

func TestHandles(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		path := filepath.Join(dir, "a")
		f := create(t, d, path, "content")
		r, err := d.OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteAt([]byte("x"), 0); err == nil {
			t.Error("a file opened for reading is written")
		}
		if err := r.Truncate(0); err == nil {
			t.Error("a file opened for reading is cut")
		}
		if err := r.Allocate(100); err == nil {
			t.Error("a file opened for reading is grown")
		}
		if got := read(t, r); got != "content" {
			t.Errorf("content %q", got)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, readErr := f.ReadAt(make([]byte, 1), 0)
		_, writeErr := f.WriteAt(make([]byte, 1), 0)
		_, sizeErr := f.Size()
		for _, err := range []error{readErr, writeErr, sizeErr, f.Sync(), f.Allocate(10), f.Truncate(1), f.Close()} {
			wantErr(t, err, fs.ErrClosed, path)
		}
	})
}

func TestRename(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		a, b, sub := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "sub")
		if err := d.MkdirAll(sub); err != nil {
			t.Fatal(err)
		}
		create(t, d, a, "new")
		old := create(t, d, b, "old")
		if err := d.Rename(a, b); err != nil {
			t.Fatal(err)
		}
		if got := readPath(t, d, b); got != "new" {
			t.Errorf("b is %q", got)
		}
		if got := read(t, old); got != "old" {
			t.Errorf("the replaced file reads %q through its handle", got)
		}
		wantErr(t, d.Rename(a, b), fs.ErrNotExist, a)
		lost := filepath.Join(dir, "none", "b")
		wantErr(t, d.Rename(b, lost), fs.ErrNotExist, lost)
		wantErr(t, d.Rename(b, sub), fs.ErrExist, sub)
		if err := d.Rename(b, b); err != nil {
			t.Error(err)
		}
		if err := d.Rename(b, filepath.Join(sub, "c")); err != nil {
			t.Error(err)
		}
		wantList(t, d, dir, "sub")
		wantList(t, d, sub, "c")
		for _, dir := range []string{dir, sub} {
			if err := d.SyncDir(dir); err != nil {
				t.Error(err)
			}
		}
	})
}

func wantList(t *testing.T, d disk.Disk, dir string, want ...string) {
	t.Helper()
	got, err := d.List(dir)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("list %s: %q, %v, want %q", dir, got, err, want)
	}
}

func TestRemove(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		sub := filepath.Join(dir, "sub")
		path := filepath.Join(sub, "a")
		if err := d.MkdirAll(sub); err != nil {
			t.Fatal(err)
		}
		f := create(t, d, path, "content")
		if err := d.Remove(sub); err == nil {
			t.Error("a directory that holds a file is removed")
		}
		if err := d.Remove(path); err != nil {
			t.Fatal(err)
		}
		wantErr(t, d.Remove(path), fs.ErrNotExist, path)
		if _, err := f.WriteAt([]byte("C"), 0); err != nil {
			t.Error(err)
		}
		if got := read(t, f); got != "Content" {
			t.Errorf("the removed file reads %q through its handle", got)
		}
		if err := d.Remove(sub); err != nil {
			t.Error(err)
		}
		wantList(t, d, dir)
	})
}

func TestList(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		wantList(t, d, dir)
		for _, name := range []string{"b", "a", "a-b", "A"} {
			create(t, d, filepath.Join(dir, name), "")
		}
		if err := d.MkdirAll(filepath.Join(dir, "a.d", "inner")); err != nil {
			t.Fatal(err)
		}
		wantList(t, d, dir, "A", "a", "a-b", "a.d", "b")
		none := filepath.Join(dir, "none")
		_, err := d.List(none)
		wantErr(t, err, fs.ErrNotExist, none)
		if _, err := d.List(filepath.Join(dir, "a")); err == nil {
			t.Error("a file is listed")
		}
	})
}

func TestMkdirAll(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		deep := filepath.Join(dir, "x", "y", "z")
		for range 2 {
			if err := d.MkdirAll(deep + string(filepath.Separator)); err != nil {
				t.Fatal(err)
			}
		}
		info, err := d.Stat(deep)
		if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			t.Errorf("stat %v, %v, want a directory of mode 0700", info, err)
		}
		file := filepath.Join(dir, "file")
		create(t, d, file, "")
		if err := d.MkdirAll(file); err == nil {
			t.Error("a file passes for a directory")
		}
		if err := d.MkdirAll(filepath.Join(file, "under")); err == nil {
			t.Error("a directory is made under a file")
		}
		none := filepath.Join(dir, "none")
		wantErr(t, d.SyncDir(none), fs.ErrNotExist, none)
	})
}

func TestLock(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		path := filepath.Join(dir, "lock")
		for range 2 {
			held, err := d.Lock(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Lock(path)
			wantErr(t, err, disk.ErrLocked, path)
			wantErr(t, err, disk.ErrLocked, strconv.Itoa(os.Getpid()))
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wantList(t, d, dir, "lock")
		lost := filepath.Join(dir, "none", "lock")
		_, err := d.Lock(lost)
		wantErr(t, err, fs.ErrNotExist, lost)
		if _, err := d.Lock(dir); err == nil {
			t.Error("a directory is locked as a file")
		}
	})
}

func TestFree(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		if free, err := d.Free(dir); err != nil || free <= 0 {
			t.Errorf("free %d, %v", free, err)
		}
		none := filepath.Join(dir, "none")
		_, err := d.Free(none)
		wantErr(t, err, fs.ErrNotExist, none)
	})
}

func TestConcurrentUse(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		const writers, rounds, part = 4, 20, 300
		shared := create(t, d, filepath.Join(dir, "shared"), "")
		if err := shared.Allocate(writers * rounds * part); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range rounds {
					p := bytes.Repeat([]byte{byte('a' + w)}, part)
					if _, err := shared.WriteAt(p, int64((i*writers+w)*part)); err != nil {
						t.Error(err)
					}
					if err := shared.Sync(); err != nil {
						t.Error(err)
					}
					tmp := filepath.Join(dir, fmt.Sprintf("tmp-%d", w))
					f, err := d.Create(tmp)
					if err != nil {
						t.Error(err)
						return
					}
					f.Close()
					if err := d.Rename(tmp, filepath.Join(dir, "final")); err != nil {
						t.Error(err)
					}
					if _, err := d.List(dir); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		got := read(t, shared)
		for i := range writers * rounds {
			want := strings.Repeat(string(rune('a'+i%writers)), part)
			if got[i*part:(i+1)*part] != want {
				t.Fatalf("part %d is not its writer's", i)
			}
		}
		wantList(t, d, dir, "final", "shared")
	})
}
