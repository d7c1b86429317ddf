package disk

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Probe sees whether files can be kept in a directory: it writes one, reads it and
// takes it away again. Where the directory is not there it does so in the nearest
// parent that is, in which MkdirAll would make the rest, and there is false. The
// error names the directory and has the first reason, the system's where it has one.
func Probe(d Disk, dir string) (there bool, err error) {
	in := filepath.Clean(dir)
	for there = true; ; there = false {
		if _, err := d.Stat(in); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(in) == in {
			break
		}
		in = filepath.Dir(in)
	}
	if err := probe(d, in); err != nil {
		// The path is that of the probe, which tells nobody anything.
		if e, ok := errors.AsType[*fs.PathError](err); ok && !errors.Is(err, ErrFull) {
			err = e.Err
		}
		if !there {
			return there, fmt.Errorf("%s cannot be made: in %s no file can be written: %w", dir, in, err)
		}
		return there, fmt.Errorf("in %s no file can be written: %w", dir, err)
	}
	return there, nil
}

func probe(d Disk, dir string) error {
	// Of its own name: two may look at once.
	path := filepath.Join(dir, ".probe-"+rand.Text()+".tmp")
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	content := []byte("probe")
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	kept := make([]byte, len(content))
	if err == nil {
		_, err = f.ReadAt(kept, 0)
	}
	if err == nil && !bytes.Equal(kept, content) {
		err = errors.New("what was written is read as something else")
	}
	return cmp.Or(err, f.Close(), d.Remove(path)) // the first says what is wrong
}
