package crashdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"manna/internal/disk"
)

func blank(t testing.TB, seed uint64) *Disk {
	t.Helper()
	d := New(seed)
	if err := d.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	return d
}

// durableFile makes a file with its content and its name synced.
func durableFile(t testing.TB, d *Disk, path, content string) disk.File {
	t.Helper()
	f, err := d.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, content, 0)
	if err := errors.Join(f.Sync(), d.SyncDir("/data")); err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, f disk.File, content string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(content), off); n != len(content) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func wantContent(t testing.TB, d *Disk, path, want string) {
	t.Helper()
	if got, err := d.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is %.60q (%d bytes), %v, want %.60q (%d bytes)", path, got, len(got), err, want, len(want))
	}
}

func wantNames(t testing.TB, d *Disk, want ...string) {
	t.Helper()
	if got, err := d.List("/data"); err != nil || !slices.Equal(got, want) {
		t.Errorf("names %q, %v, want %q", got, err, want)
	}
}

// block is n sectors of one letter.
func block(letter string, n int) string { return strings.Repeat(letter, n*sectorSize) }

func TestSyncedBytesSurvive(t *testing.T) {
	for _, keep := range []float64{0, 0.5, 1} {
		d := blank(t, 1)
		durableFile(t, d, "/data/a", "synced")
		wantContent(t, d.Crash(keep), "/data/a", "synced")
	}
}

func TestUnsyncedBytes(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("o", 64))
	write(t, f, block("n", 128), 0)

	wantContent(t, d.Crash(0), "/data/a", block("o", 64))
	wantContent(t, d.Crash(1), "/data/a", block("n", 128))

	var sizes []int
	for range 20 {
		got, err := d.Crash(0.5).ReadFile("/data/a")
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(got))
		seen := map[string]int{}
		for i := 0; i < len(got); i += sectorSize {
			seen[string(got[i:i+sectorSize])]++
		}
		old, fresh, hole := seen[block("o", 1)], seen[block("n", 1)], seen[block("\x00", 1)]
		if old+fresh+hole != len(got)/sectorSize {
			t.Fatal("a sector is torn")
		}
		if old == 0 || old > 64 || fresh == 0 || hole == 0 {
			t.Errorf("%d old, %d new, %d lost sectors: not mixed", old, fresh, hole)
		}
	}
	if slices.Max(sizes) != 128*sectorSize || slices.Min(sizes) == 128*sectorSize {
		t.Errorf("sizes %v: the size is never kept, or always", sizes)
	}
	wantContent(t, d, "/data/a", block("n", 128))
}

func TestSameSeedSameCrash(t *testing.T) {
	after := func(seed uint64) []byte {
		d := blank(t, seed)
		for i := range 10 {
			f, err := d.Create(fmt.Sprintf("/data/%d", i))
			if err != nil {
				t.Fatal(err)
			}
			write(t, f, block("n", 20), 0)
		}
		d.Crash(0.5)
		crashed := d.Crash(0.5).Kill().Crash(0.5)
		var all bytes.Buffer
		names, err := crashed.List("/data")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := crashed.ReadFile("/data/" + name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "%s %x\n", name, data)
		}
		return all.Bytes()
	}
	if !bytes.Equal(after(7), after(7)) {
		t.Error("one seed, two outcomes")
	}
	if bytes.Equal(after(7), after(8)) {
		t.Error("two seeds, one outcome")
	}
}

func TestUnsyncedSize(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f disk.File) error
		want   string
	}{
		{"truncate", func(f disk.File) error { return f.Truncate(700) }, block("o", 2)[:700]},
		{"grow", func(f disk.File) error { return f.Truncate(2000) }, block("o", 2) + block("\x00", 2)[:2000-1024]},
		{"allocate", func(f disk.File) error { return f.Allocate(2000) }, block("o", 2) + block("\x00", 2)[:2000-1024]},
		{"cut and grow", func(f disk.File) error { return errors.Join(f.Truncate(700), f.Truncate(1024)) },
			block("o", 2)[:700] + block("\x00", 1)[:324]},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := blank(t, 1)
			f := durableFile(t, d, "/data/a", block("o", 2))
			if err := c.change(f); err != nil {
				t.Fatal(err)
			}
			wantContent(t, d.Crash(0), "/data/a", block("o", 2))
			wantContent(t, d.Crash(1), "/data/a", c.want)
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			wantContent(t, d.Crash(0), "/data/a", c.want)
		})
	}
}

// A size never comes back without the truncation before it.
func TestUnsyncedCutAndGrowth(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", block("o", 4))
	if err := errors.Join(f.Truncate(100), f.Truncate(1000)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 50 {
		seen[contentOf(t, d.Crash(0.5), "/data/a")]++
	}
	for _, want := range []string{block("o", 4), block("o", 1)[:100], block("o", 1)[:100] + block("\x00", 2)[:900]} {
		if seen[want] == 0 {
			t.Errorf("never seen: %d bytes", len(want))
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("impossible: %v", slices.Collect(maps.Keys(seen)))
	}
}

func TestUnsyncedNames(t *testing.T) {
	d := blank(t, 1)
	durableFile(t, d, "/data/gone", "gone")
	durableFile(t, d, "/data/final", "old")
	tmp, err := d.Create("/data/tmp")
	if err != nil {
		t.Fatal(err)
	}
	write(t, tmp, "new", 0)
	if err := errors.Join(tmp.Sync(), d.Rename("/data/tmp", "/data/final"), d.Remove("/data/gone")); err != nil {
		t.Fatal(err)
	}

	lost := d.Crash(0)
	wantNames(t, lost, "final", "gone")
	wantContent(t, lost, "/data/final", "old")
	wantContent(t, lost, "/data/gone", "gone")

	all := d.Crash(1)
	wantNames(t, all, "final")
	wantContent(t, all, "/data/final", "new")

	seen := map[string]int{}
	for range 100 {
		crashed := d.Crash(0.5)
		names, err := crashed.List("/data")
		if err != nil {
			t.Fatal(err)
		}
		final, err := crashed.ReadFile("/data/final")
		if err != nil {
			t.Fatalf("the rename's target is gone: %v", err)
		}
		seen[fmt.Sprint(names, string(final))]++
	}
	for _, want := range []string{
		"[final gone]old", "[final gone]new", "[final]old", "[final]new", "[final gone tmp]old", "[final tmp]old",
	} {
		if seen[want] == 0 {
			t.Errorf("never seen: %s", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("impossible: %v", seen)
	}

	if err := d.SyncDir("/data"); err != nil {
		t.Fatal(err)
	}
	durable := d.Crash(0)
	wantNames(t, durable, "final")
	wantContent(t, durable, "/data/final", "new")
}

// A log that is moved aside and begun anew must not lose what was synced in it.
func TestRotationLosesNothing(t *testing.T) {
	d := blank(t, 1)
	durableFile(t, d, "/data/log", "first")
	if err := d.Rename("/data/log", "/data/log.1"); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("/data/log")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, "second", 0)
	for range 50 {
		crashed := d.Crash(0.5)
		log, _ := crashed.ReadFile("/data/log")
		old, _ := crashed.ReadFile("/data/log.1")
		if string(log) != "first" && string(old) != "first" {
			t.Fatalf("log %q, log.1 %q", log, old)
		}
	}
}

func TestSyncedRenameBetweenDirectories(t *testing.T) {
	for _, sync := range []string{"/data", "/data/sub"} {
		d := blank(t, 1)
		if err := d.MkdirAll("/data/sub"); err != nil {
			t.Fatal(err)
		}
		durableFile(t, d, "/data/a", "content")
		if err := errors.Join(d.Rename("/data/a", "/data/sub/b"), d.SyncDir(sync)); err != nil {
			t.Fatal(err)
		}
		crashed := d.Crash(0)
		wantNames(t, crashed, "sub")
		wantContent(t, crashed, "/data/sub/b", "content")
	}
}

// A name's durable state takes its whole history along, and no other's.
func TestSyncedNamesKeepTheirOrder(t *testing.T) {
	d := blank(t, 1)
	if err := d.MkdirAll("/data/sub"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/data/a", "/data/sub/x"} {
		if _, err := d.Create(path); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		d.Rename("/data/sub/x", "/data/sub/y"),
		d.Rename("/data/a", "/data/sub/b"),
		d.SyncDir("/data"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for keep, want := range []string{"[b]", "[b y]"} {
		crashed := d.Crash(float64(keep))
		wantNames(t, crashed, "sub")
		if got, err := crashed.List("/data/sub"); fmt.Sprint(got) != want {
			t.Errorf("keep %d: %v, %v, want %s", keep, got, err, want)
		}
	}

	if _, err := d.Create("/data/c"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Rename("/data/c", "/data/sub/c"), d.SyncDir("/data/sub")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, d.Crash(1), "sub")
}

func TestALostDirectoryTakesItsFiles(t *testing.T) {
	d := blank(t, 1)
	d.FailAt(OpSyncDir, 2, errInjected, false) // the first is for /data itself
	if err := d.MkdirAll("/data/sub"); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	f, err := d.Create("/data/sub/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), d.SyncDir("/data/sub")); err != nil {
		t.Fatal(err)
	}
	crashed := d.Crash(1)
	wantNames(t, crashed)
	if _, err := crashed.Stat("/data/sub/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there without its directory: %v", err)
	}
}

func TestKillKeepsThePageCache(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "synced")
	write(t, f, "UN", 0)
	b, err := d.Create("/data/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock("/data/lock"); err != nil {
		t.Fatal(err)
	}

	killed := d.Kill()
	wantNames(t, killed, "a", "b", "lock")
	wantContent(t, killed, "/data/a", "UNnced")
	if _, err := killed.Lock("/data/lock"); err != nil {
		t.Errorf("the lock outlives its process: %v", err)
	}

	lost := killed.Crash(0)
	wantNames(t, lost, "a")
	wantContent(t, lost, "/data/a", "synced")

	write(t, b, "after the kill", 0)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, killed.Crash(1), "/data/b", "")

	again, err := killed.Open("/data/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Sync(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, killed.Crash(0), "/data/a", "UNnced")
	wantContent(t, d.Crash(0), "/data/a", "synced")
}

func TestTheOriginalGoesOn(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/a", "one")
	crashed, killed := d.Crash(1), d.Kill()
	write(t, f, "two", 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, crashed, "/data/a", "one")
	wantContent(t, killed, "/data/a", "one")
	g, err := crashed.Open("/data/a")
	if err != nil {
		t.Fatal(err)
	}
	write(t, g, "six", 0)
	wantContent(t, d, "/data/a", "two")
	if _, err := crashed.Open("/data/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestCrashUnderLoad takes crashes while a log is being appended to: what was
// synced before the crash began is there.
func TestCrashUnderLoad(t *testing.T) {
	d := blank(t, 1)
	f := durableFile(t, d, "/data/log", "")
	var synced atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, err := f.WriteAt([]byte(block("r", 1)), i*sectorSize); err != nil {
				stopped <- err
				return
			}
			if err := f.Sync(); err != nil {
				stopped <- err
				return
			}
			synced.Store(i + 1)
		}
	}()
	for range 100 {
		floor := synced.Load()
		got, err := d.Crash(0).ReadFile("/data/log")
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(got)) < floor*sectorSize || strings.Trim(string(got), "r") != "" {
			t.Fatalf("%d sectors were synced, %d bytes are there", floor, len(got))
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
