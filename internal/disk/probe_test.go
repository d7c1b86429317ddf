package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func TestProbeLeavesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, d disk.Disk, dir string) {
		for path, want := range map[string]bool{dir: true, filepath.Join(dir, "a", "b"): false} {
			if there, err := disk.Probe(d, path); err != nil || there != want {
				t.Errorf("%s: there %v, %v; want %v", path, there, err, want)
			}
		}
		if names, err := d.List(dir); err != nil || len(names) > 0 {
			t.Errorf("it leaves %v (%v)", names, err)
		}
	})
}

// A removal that fails too must not stand for what is wrong.
func TestProbeSaysWhatIsWrongFirst(t *testing.T) {
	d := crashdisk.New(1)
	if err := d.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the disk is ill")
	if _, err := disk.Probe(ill{d, why}, "/data"); !errors.Is(err, why) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v; want %v alone", err, why)
	}
	if _, err := disk.Probe(ill{d, nil}, "/data"); err == nil || !strings.Contains(err.Error(), "read as something else") {
		t.Errorf("of a disk that forgets: %v", err)
	}
}

// ill is a disk that removes nothing; its files cannot be written to for a reason, or
// else forget what was.
type ill struct {
	disk.Disk
	why error
}

func (d ill) Create(path string) (disk.File, error) {
	f, err := d.Disk.Create(path)
	return illFile{f, d.why}, err
}

func (ill) Remove(path string) error {
	return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrPermission}
}

type illFile struct {
	disk.File
	why error
}

func (f illFile) WriteAt(p []byte, off int64) (int, error) {
	if f.why != nil {
		return 0, f.why
	}
	return f.File.WriteAt(make([]byte, len(p)), off)
}

func TestProbeSaysWhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := disk.Probe(disk.OS{}, dir); err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), ".probe") {
			t.Errorf("%s: %v; want an error with this path alone", dir, err)
		}
	}
	for _, want := range []error{fs.ErrPermission, disk.ErrFull} {
		d := crashdisk.New(1)
		if err := d.MkdirAll("/data"); err != nil {
			t.Fatal(err)
		}
		d.FailAt(crashdisk.OpCreate, 1, want, false)
		if there, err := disk.Probe(d, "/data/a/b"); there || !errors.Is(err, want) || !strings.Contains(err.Error(), "/data/a/b cannot be made: in /data ") {
			t.Errorf("there %v, %v; want %v", there, err, want)
		}
	}
}
