package disk_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// TestSameAsTheRealDisk does the same random work on both disks and wants the
// same answers and the same content.
func TestSameAsTheRealDisk(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		real, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		pair := newPair(t, real)
		defer pair.close()
		name := rapid.SampledFrom([]string{"a", "b", "dir/c", "dir", "none/d"})
		size := rapid.Int64Range(0, 3000)
		t.Repeat(map[string]func(*rapid.T){
			"create":   func(t *rapid.T) { pair.create(t, name.Draw(t, "name")) },
			"open":     func(t *rapid.T) { pair.open(t, name.Draw(t, "name")) },
			"rename":   func(t *rapid.T) { pair.rename(t, name.Draw(t, "from"), name.Draw(t, "to")) },
			"remove":   func(t *rapid.T) { pair.remove(t, name.Draw(t, "name")) },
			"mkdir":    func(t *rapid.T) { pair.mkdir(t, name.Draw(t, "name")) },
			"truncate": func(t *rapid.T) { pair.truncate(t, size.Draw(t, "size")) },
			"allocate": func(t *rapid.T) { pair.allocate(t, size.Draw(t, "size")) },
			"write": func(t *rapid.T) {
				pair.write(t, rapid.SliceOfN(rapid.Byte(), 0, 1500).Draw(t, "bytes"), size.Draw(t, "offset"))
			},
			"": pair.compare,
		})
	})
}

// pair is one state on two disks, with at most one file open.
type pair struct {
	disks [2]disk.Disk
	roots [2]string
	files [2]disk.File
}

func newPair(t *rapid.T, real string) *pair {
	p := &pair{disks: [2]disk.Disk{disk.OS{}, crashdisk.New(1)}, roots: [2]string{real, "/data"}}
	for i, d := range p.disks {
		if err := d.MkdirAll(filepath.Join(p.roots[i], "dir")); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pair) close() {
	for _, f := range p.files {
		if f != nil {
			f.Close()
		}
	}
}

// both does one thing on each disk and wants both to fail or neither, in the same
// class where there is one.
func (p *pair) both(t *rapid.T, do func(d disk.Disk, root string, i int) error) bool {
	var errs [2]error
	for i, d := range p.disks {
		errs[i] = do(d, p.roots[i], i)
	}
	if (errs[0] == nil) != (errs[1] == nil) {
		t.Fatalf("the real disk says %v, crashdisk %v", errs[0], errs[1])
	}
	for _, class := range []error{fs.ErrExist, fs.ErrNotExist, fs.ErrClosed} {
		if errors.Is(errs[0], class) != errors.Is(errs[1], class) {
			t.Fatalf("the real disk says %v, crashdisk %v", errs[0], errs[1])
		}
	}
	return errs[0] == nil
}

func (p *pair) handle(t *rapid.T, open func(d disk.Disk, path string) (disk.File, error), name string) {
	var files [2]disk.File
	ok := p.both(t, func(d disk.Disk, root string, i int) (err error) {
		files[i], err = open(d, filepath.Join(root, name))
		return err
	})
	if ok {
		p.close()
		p.files = files
	}
}

func (p *pair) create(t *rapid.T, name string) { p.handle(t, disk.Disk.Create, name) }
func (p *pair) open(t *rapid.T, name string)   { p.handle(t, disk.Disk.Open, name) }

func (p *pair) rename(t *rapid.T, from, to string) {
	if from == "dir" {
		return // crashdisk moves files only
	}
	p.both(t, func(d disk.Disk, root string, _ int) error {
		return d.Rename(filepath.Join(root, from), filepath.Join(root, to))
	})
}

func (p *pair) remove(t *rapid.T, name string) {
	p.both(t, func(d disk.Disk, root string, _ int) error { return d.Remove(filepath.Join(root, name)) })
}

func (p *pair) mkdir(t *rapid.T, name string) {
	if name == "a" || name == "b" {
		return // those stay files
	}
	p.both(t, func(d disk.Disk, root string, _ int) error {
		return d.MkdirAll(filepath.Dir(filepath.Join(root, name)))
	})
}

func (p *pair) onFile(t *rapid.T, do func(f disk.File) error) {
	if p.files[0] == nil {
		return
	}
	p.both(t, func(_ disk.Disk, _ string, i int) error { return do(p.files[i]) })
}

func (p *pair) truncate(t *rapid.T, size int64) {
	p.onFile(t, func(f disk.File) error { return f.Truncate(size) })
}

func (p *pair) allocate(t *rapid.T, size int64) {
	p.onFile(t, func(f disk.File) error { return f.Allocate(size) })
}

func (p *pair) write(t *rapid.T, b []byte, off int64) {
	p.onFile(t, func(f disk.File) error {
		if n, err := f.WriteAt(b, off); n != len(b) || err != nil {
			return fmt.Errorf("%d of %d: %w", n, len(b), err)
		}
		return nil
	})
}

// compare wants the same names and the same bytes on both disks.
func (p *pair) compare(t *rapid.T) {
	var trees [2]string
	for i, d := range p.disks {
		var b strings.Builder
		for _, dir := range []string{"", "dir", "none"} {
			names, err := d.List(filepath.Join(p.roots[i], dir))
			fmt.Fprintf(&b, "%s: %q %v\n", dir, names, errors.Is(err, fs.ErrNotExist))
			for _, name := range names {
				path := filepath.Join(p.roots[i], dir, name)
				if info, err := d.Stat(path); err != nil || info.IsDir() {
					fmt.Fprintf(&b, "%s dir %v\n", name, err)
					continue
				}
				f, err := d.OpenRead(path)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s %x\n", name, content(t, f))
				f.Close()
			}
		}
		if p.files[i] != nil {
			fmt.Fprintf(&b, "open %x\n", content(t, p.files[i]))
		}
		trees[i] = b.String()
	}
	if trees[0] != trees[1] {
		t.Fatalf("the real disk holds\n%s\ncrashdisk holds\n%s", trees[0], trees[1])
	}
}

func content(t *rapid.T, f disk.File) []byte {
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size+1))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
