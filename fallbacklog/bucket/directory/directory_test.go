package directory_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/buckettest"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for name, d := range map[string]func() disk.Disk{
		"OS":        func() disk.Disk { return disk.OS{} },
		"crashdisk": func() disk.Disk { return crashdisk.New(7) },
	} {
		t.Run(name, func(t *testing.T) {
			buckettest.Run(t, func(t *testing.T) bucket.Bucket {
				return directory.New(d(), filepath.Join(t.TempDir(), "archive"))
			})
		})
	}
}

// TestTwoProcesses: each has a bucket of its own on one directory.
func TestTwoProcesses(t *testing.T) {
	d := crashdisk.New(1)
	one, two := directory.New(d, "archive"), directory.New(d, "archive")
	if err := one.Put(t.Context(), "a/b", bucket.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	lock, err := d.Lock("archive/a/.lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Put(t.Context(), "a/c", bucket.Bytes([]byte("y"))); !errors.Is(err, disk.ErrLocked) {
		t.Fatalf("written beside another: %v", err)
	}
	lock.Close()
	if err := two.Put(t.Context(), "a/c", bucket.Bytes([]byte("y"))); err != nil {
		t.Fatal(err)
	}
}

// TestACrashAtEveryOperation: an object is there as a whole once it has been told so.
func TestACrashAtEveryOperation(t *testing.T) {
	ctx := t.Context()
	old, fresh := buckettest.Random(1, 3000), buckettest.Random(2, 5000)
	ops := []crashdisk.Op{crashdisk.OpCreate, crashdisk.OpWrite, crashdisk.OpSync, crashdisk.OpRead, crashdisk.OpRename, crashdisk.OpSyncDir, crashdisk.OpOpen, crashdisk.OpLock}
	errIO := errors.New("input/output error")
	for _, op := range ops {
		for _, applied := range []bool{true, false} {
			if op == crashdisk.OpLock && applied {
				continue // a lock that is held and that nobody has
			}
			d := crashdisk.New(3)
			if err := d.MkdirAll("archive"); err != nil {
				t.Fatal(err)
			}
			b := directory.New(d, "archive")
			if err := b.Put(ctx, "a/old", bucket.Bytes(old)); err != nil {
				t.Fatal(err)
			}
			d.FailAt(op, 1, errIO, applied)
			if err := b.Replace(ctx, "a/old", bucket.SumOf(old), bucket.Bytes(fresh)); !errors.Is(err, errIO) {
				t.Fatalf("%s failed: %v", op, err)
			}
			for _, keep := range []float64{0, 0.5, 1} {
				left := directory.New(d.Crash(keep), "archive")
				got, err := bucket.ReadAll(ctx, left, "a/old", 1<<20)
				if err != nil || string(got) != string(old) && string(got) != string(fresh) {
					t.Fatalf("%s failed, and after the crash: %d bytes, %v", op, len(got), err)
				}
			}
			// It is done when it says so.
			if err := b.Replace(ctx, "a/old", bucket.SumOf(old), bucket.Bytes(fresh)); err != nil {
				t.Fatalf("%s failed once: %v", op, err)
			}
			buckettest.Want(t, directory.New(d.Kill(), "archive"), "a/old", fresh)
		}
	}
}

func TestDurableWhenDone(t *testing.T) {
	d := crashdisk.New(5)
	if err := d.MkdirAll("archive"); err != nil {
		t.Fatal(err)
	}
	c := buckettest.Random(1, 9000)
	if err := directory.New(d, "archive").Put(t.Context(), "a/b/c", bucket.Bytes(c)); err != nil {
		t.Fatal(err)
	}
	buckettest.Want(t, directory.New(d.Crash(0), "archive"), "a/b/c", c)
}

// TestTakenAway: the directory is made again.
func TestTakenAway(t *testing.T) {
	root := filepath.Join(t.TempDir(), "archive")
	b := directory.New(disk.OS{}, root)
	c := bucket.Bytes([]byte("x"))
	if err := b.Put(t.Context(), "a/b", c); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "a/b", c); err == nil {
		t.Fatal("stored where there is no directory")
	}
	if err := b.Put(t.Context(), "a/b", c); err != nil {
		t.Fatal(err)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, filepath.Join(file, "below")} {
		if err := directory.New(disk.OS{}, root).Check(t.Context()); err == nil || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "archive: {url") {
			t.Errorf("%s as a bucket: %v", root, err)
		}
	}
	denied := crashdisk.New(1)
	denied.FailAt(crashdisk.OpCreate, 1, os.ErrPermission, false)
	if err := directory.New(denied, "archive").Check(t.Context()); !errors.Is(err, bucket.ErrDenied) || !bucket.Lasting(err) {
		t.Errorf("a directory of somebody else: %v", err)
	}
	full := crashdisk.New(1)
	if err := full.MkdirAll("archive"); err != nil {
		t.Fatal(err)
	}
	full.FailAt(crashdisk.OpSync, 1, disk.ErrFull, false)
	if err := directory.New(full, "archive").Check(t.Context()); !errors.Is(err, disk.ErrFull) || bucket.Lasting(err) {
		t.Errorf("a full disk: %v", err)
	}
	if names, err := full.List("archive"); err != nil || len(names) > 0 {
		t.Errorf("the probe stays: %v, %v", names, err)
	}
}

// TestCheckMakesNothing: a look at an archive that is to be made leaves no trace.
func TestCheckMakesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := directory.New(disk.OS{}, filepath.Join(dir, "a", "archive")).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("it leaves %v (%v)", names, err)
	}
}
