package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"

	"manna/console"
)

// progress is how far a grant came, and of which file. It stands beside the file,
// and goes when the grant is done.
type progress struct {
	Rows    int           `json:"rows"`             // read so far
	Undone  []int         `json:"undone,omitempty"` // which of them, counted from 0, still have to be claimed: some of one batch
	Refused int           `json:"refused"`          // how many of them were
	Common  console.Claim `json:"common"`           // what the flags gave to every row
	Size    int64         `json:"size"`             // of the file, in bytes
	SHA256  string        `json:"sha256"`           // of the file
}

// newProgress is the beginning of a grant: it reads the file through for its hash,
// and goes back to its start.
func newProgress(f *os.File, common console.Claim) (progress, error) {
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return progress{Common: common, Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

// resume takes up what an earlier run of the same grant left at path, where there
// is something.
func (p *progress) resume(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var earlier progress
	if err == nil {
		err = json.Unmarshal(b, &earlier)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: begin with the first row again with --restart", path, err)
	case earlier.Size != p.Size || earlier.SHA256 != p.SHA256:
		return fmt.Errorf("%s belongs to another file, or to this one before it was changed: begin with the first row again with --restart; rows that were claimed before count as duplicates", path)
	case !reflect.DeepEqual(earlier.Common, p.Common):
		return fmt.Errorf("%s was begun with other flags: give the same ones, or begin with the first row again with --restart", path)
	}
	*p = earlier
	return nil
}

// write keeps the progress at path. Losing it only means that rows are claimed
// again, which gives nothing twice.
func (p *progress) write(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
