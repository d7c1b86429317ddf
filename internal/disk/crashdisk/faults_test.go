package crashdisk

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"manna/internal/disk"
)

var errInjected = errors.New("injected")

// TestFailAt fails each operation in turn, with and without its effect.
func TestFailAt(t *testing.T) {
	work := []struct {
		op     Op
		do     func(d *Disk, f disk.File) error
		effect func(t *testing.T, d *Disk) bool
	}{
		{OpWrite, func(_ *Disk, f disk.File) error { _, err := f.WriteAt([]byte("new"), 0); return err },
			func(t *testing.T, d *Disk) bool { return contentOf(t, d, "/data/a") == "newtent" }},
		{OpSync, func(_ *Disk, f disk.File) error { return f.Sync() },
			func(t *testing.T, d *Disk) bool { return contentOf(t, d.Crash(0), "/data/b") == "unsynced" }},
		{OpAllocate, func(_ *Disk, f disk.File) error { return f.Allocate(100) },
			func(t *testing.T, d *Disk) bool { return len(contentOf(t, d, "/data/a")) == 100 }},
		{OpTruncate, func(_ *Disk, f disk.File) error { return f.Truncate(3) },
			func(t *testing.T, d *Disk) bool { return contentOf(t, d, "/data/a") == "con" }},
		{OpCreate, func(d *Disk, _ disk.File) error { _, err := d.Create("/data/c"); return err },
			func(t *testing.T, d *Disk) bool { return has(t, d, "c") }},
		{OpRename, func(d *Disk, _ disk.File) error { return d.Rename("/data/b", "/data/c") },
			func(t *testing.T, d *Disk) bool { return has(t, d, "c") && !has(t, d, "b") }},
		{OpRemove, func(d *Disk, _ disk.File) error { return d.Remove("/data/b") },
			func(t *testing.T, d *Disk) bool { return !has(t, d, "b") }},
		{OpMkdir, func(d *Disk, _ disk.File) error { return d.MkdirAll("/data/sub") },
			func(t *testing.T, d *Disk) bool { return has(t, d, "sub") }},
		{OpSyncDir, func(d *Disk, _ disk.File) error { return d.SyncDir("/data") },
			func(t *testing.T, d *Disk) bool { return has(t, d.Crash(0), "unsynced-name") }},
		{OpLock, func(d *Disk, _ disk.File) error { _, err := d.Lock("/data/lock"); return err },
			func(t *testing.T, d *Disk) bool { return has(t, d, "lock") }},
	}
	for _, w := range work {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprint(w.op, " applied ", applied), func(t *testing.T) {
				d := blank(t, 1)
				f := durableFile(t, d, "/data/a", "content")
				b := durableFile(t, d, "/data/b", "")
				write(t, b, "unsynced", 0)
				if _, err := d.Create("/data/unsynced-name"); err != nil {
					t.Fatal(err)
				}
				if w.op == OpSync {
					f = b
				}
				before := d.Ops()[w.op]
				d.FailAt(w.op, 1, errInjected, applied)
				err := w.do(d, f)
				if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "/data") {
					t.Errorf("error %v, want the injected one with a path", err)
				}
				if got := w.effect(t, d); got != applied {
					t.Errorf("effect %v, want %v", got, applied)
				}
				if got := d.Ops()[w.op] - before; got != 1 {
					t.Errorf("%d operations counted, want 1", got)
				}
			})
		}
	}
}

func contentOf(t *testing.T, d *Disk, path string) string {
	t.Helper()
	data, err := d.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func has(t *testing.T, d *Disk, name string) bool {
	t.Helper()
	names, err := d.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(names, name)
}

func TestReadsFail(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "content")
	for _, open := range []func(string) (disk.File, error){d.Open, d.OpenRead} {
		d.FailAt(OpOpen, 1, errInjected, false)
		if _, err := open("/data/a"); !errors.Is(err, errInjected) {
			t.Errorf("open: %v", err)
		}
	}
	d.FailAt(OpRead, 1, errInjected, false)
	p := make([]byte, 7)
	if n, err := f.ReadAt(p, 0); n != 0 || !errors.Is(err, errInjected) {
		t.Errorf("read: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 0); n != 7 || err != nil {
		t.Errorf("the read after: %d, %v", n, err)
	}
}

func TestFaultsStrikeOnceAndAtTheirTurn(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "")
	second := errors.New("second")
	d.FailAt(OpWrite, 2, errInjected, false)
	d.FailAt(OpWrite, 4, second, false)
	d.FailAt(OpSync, 9, errInjected, false)
	for i, want := range []error{nil, errInjected, nil, second, nil, nil} {
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i+1, err, want)
		}
	}
}

// TestFailedSyncIsNotRepaired is the reason why a failed Sync must not be tried
// again: the second one succeeds and the bytes are lost.
func TestFailedSyncIsNotRepaired(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("o", 3))
	write(t, f, block("n", 1), 0)
	d.FailAt(OpSync, 1, errInjected, false)
	if err := f.Sync(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("the second sync: %v, want nil", err)
	}
	wantContent(t, d, "/data/a", block("n", 1)+block("o", 2))
	for _, keep := range []float64{0, 1} {
		wantContent(t, d.Crash(keep), "/data/a", block("o", 3))
		wantContent(t, d.Kill().Crash(keep), "/data/a", block("o", 3))
	}

	// What is written afterwards is synced again, with a hole before it.
	write(t, f, block("m", 2), 2*sectorSize)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, d.Crash(0), "/data/a", block("o", 2)+block("m", 2))
}

func TestFailedSyncLosesTheSize(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("o", 1))
	write(t, f, block("n", 2), sectorSize)
	d.FailAt(OpSync, 1, errInjected, false)
	if err := f.Sync(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	wantContent(t, d.Crash(1), "/data/a", block("o", 1))
	write(t, f, block("m", 1), 3*sectorSize)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, d.Crash(0), "/data/a", block("o", 1)+block("\x00", 2)+block("m", 1))
}

func TestFailedSyncDirIsNotRepaired(t *testing.T) {
	d := blank(t, 1)
	durableFile(t, d, "/data/a", "a")
	f, err := d.Create("/data/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	d.FailAt(OpSyncDir, 1, errInjected, false)
	if err := d.SyncDir("/data"); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	if err := d.SyncDir("/data"); err != nil {
		t.Errorf("the second sync: %v, want nil", err)
	}
	wantNames(t, d, "a", "b")
	wantNames(t, d.Crash(1), "a")

	// A new change of the same name takes the old one along.
	if err := errors.Join(d.Rename("/data/b", "/data/c"), d.SyncDir("/data")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, d.Crash(0), "a", "c")
}

func TestShortWrite(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "")
	d.ShortWriteAt(2, 4, io.ErrShortWrite)
	write(t, f, "one ", 0)
	if n, err := f.WriteAt([]byte("another"), 4); n != 4 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("write: %d, %v, want 4 and a short write", n, err)
	}
	wantContent(t, d, "/data/a", "one anot")
	d.ShortWriteAt(1, 100, errInjected)
	if n, err := f.WriteAt([]byte("x"), 0); n != 1 || !errors.Is(err, errInjected) {
		t.Errorf("write: %d, %v", n, err)
	}
}

func TestCapacity(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("a", 2))
	d.SetCapacity(10 * sectorSize)
	if free, err := d.Free("/data"); err != nil || free != 8*sectorSize {
		t.Errorf("free %d, %v", free, err)
	}

	err := f.Allocate(11 * sectorSize)
	wantFull(t, err)
	if d.Used() != 2*sectorSize {
		t.Errorf("%d bytes used after a refused Allocate", d.Used())
	}
	if size, _ := f.Size(); size != 2*sectorSize {
		t.Errorf("size %d after a refused Allocate", size)
	}
	if err := f.Allocate(6 * sectorSize); err != nil {
		t.Fatal(err)
	}

	g := durableFile(t, d, "/data/b", "")
	n, err := g.WriteAt([]byte(block("b", 7)), 0)
	wantFull(t, err)
	if n != 4*sectorSize {
		t.Errorf("%d bytes written, want what fits", n)
	}
	wantContent(t, d, "/data/b", block("b", 4))
	write(t, f, block("r", 6), 0)
	write(t, g, block("c", 4), 0)
	if n, err := f.WriteAt([]byte("x"), 6*sectorSize); n != 0 || !errors.Is(err, disk.ErrFull) {
		t.Errorf("write on a full disk: %d, %v", n, err)
	}

	// Allocated room is there after a power loss as well.
	if err := errors.Join(f.Sync(), g.Sync()); err != nil {
		t.Fatal(err)
	}
	crashed := d.Crash(0)
	if got := crashed.Used(); got != 10*sectorSize {
		t.Errorf("%d bytes used after a crash", got)
	}

	// A removed file gives its room back with its last handle.
	if err := d.Remove("/data/b"); err != nil {
		t.Fatal(err)
	}
	if free, _ := d.Free("/data"); free != 0 {
		t.Errorf("%d bytes free while the removed file is open", free)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if free, _ := d.Free("/data"); free != 4*sectorSize {
		t.Errorf("%d bytes free after the removed file was closed", free)
	}
	if err := f.Truncate(sectorSize + 1); err != nil {
		t.Fatal(err)
	}
	if d.Used() != 2*sectorSize {
		t.Errorf("%d bytes used after a truncation", d.Used())
	}
	d.SetCapacity(0)
	if free, _ := d.Free("/data"); free != 0 {
		t.Errorf("%d bytes free above capacity", free)
	}
	d.SetCapacity(1 << 20)
	write(t, f, block("x", 20), 0)
}

// Room is counted once, whether it was written first or allocated first.
func TestRoomIsCountedOnce(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("a", 1))
	write(t, f, block("a", 1), 3*sectorSize)
	write(t, f, block("a", 1), 9*sectorSize)
	for _, c := range []struct{ allocate, used int64 }{{5, 6}, {7, 8}, {10, 10}, {4, 10}} {
		if err := f.Allocate(c.allocate * sectorSize); err != nil {
			t.Fatal(err)
		}
		if got := d.Used(); got != c.used*sectorSize {
			t.Errorf("%d bytes used with %d sectors allocated, want %d sectors", got, c.allocate, c.used)
		}
	}
	write(t, f, block("b", 10), 0)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if used := d.Used() + d.Crash(0).Used(); used != 0 {
		t.Errorf("%d bytes used by an empty file", used)
	}
}

func wantFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, disk.ErrFull) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v, want a full disk's", err)
	}
}

func TestAllocatedRoomSurvivesAFullDisk(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "")
	if err := errors.Join(f.Allocate(8*sectorSize), f.Sync()); err != nil {
		t.Fatal(err)
	}
	d.SetCapacity(8 * sectorSize)
	for name, after := range map[string]*Disk{"crash": d.Crash(0), "kill": d.Kill()} {
		if free, err := after.Free("/data"); free != 0 || err != nil {
			t.Errorf("after a %s: %d bytes free, %v", name, free, err)
		}
		g, err := after.Open("/data/a")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := g.WriteAt([]byte(block("x", 8)), 0); err != nil {
			t.Errorf("after a %s: %d, %v", name, n, err)
		}
	}
}

// TestOnSync takes a power loss at every sync, from within it.
func TestOnSync(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "")
	var seen []string
	d.OnSync(func(path string) { seen = append(seen, path+" "+contentOf(t, d.Crash(0), "/data/a")) })
	write(t, f, "1", 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "2", 1)
	d.FailAt(OpSync, 1, errInjected, false)
	if err := f.Sync(); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	d.OnSync(nil)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/data/a 1", "/data/a 1"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

func TestTampering(t *testing.T) {
	d := blank(t, 1)
	if err := d.WriteFile("/data/a", []byte("first")); err != nil {
		t.Fatal(err)
	}
	f, err := d.Open("/data/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile("/data/a", []byte("AAAA")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if _, err := f.ReadAt(p, 0); err != nil || string(p) != "first" {
		t.Errorf("the old handle reads %q, %v", p, err)
	}
	if err := d.FlipBit("/data/a", 2, 1); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Disk{d, d.Crash(0), d.Kill()} {
		wantContent(t, d, "/data/a", "AACA")
	}
	for _, err := range []error{
		d.FlipBit("/data/a", 4, 0), d.FlipBit("/data/a", -1, 0), d.FlipBit("/data/a", 0, 8), d.FlipBit("/data/b", 0, 0),
		d.WriteFile("/data", nil), d.WriteFile("/none/a", nil),
	} {
		if err == nil {
			t.Error("nonsense is taken")
		}
	}
	if ops := d.Ops(); ops[OpWrite]+ops[OpSync]+ops[OpCreate] != 0 {
		t.Errorf("tampering is counted: %v", ops)
	}
}
