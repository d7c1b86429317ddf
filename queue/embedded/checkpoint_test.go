package embedded

import (
	"errors"
	"io/fs"
	"reflect"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func sample() *checkpoint {
	return &checkpoint{
		through: fallbacklog.At(3, 1000), low: fallbacklog.At(2, 300), touched: fallbacklog.At(2, 900),
		mark:    mark{at: fallbacklog.At(3, 700), time: 12345},
		entries: []entry{{due: 7, at: fallbacklog.At(2, 400)}, {due: -1, at: fallbacklog.At(1, 256)}},
	}
}

func TestCheckpointReadsBackOrFails(t *testing.T) {
	good := sample().encode()
	got, err := decodeCheckpoint(good)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Fatalf("got %+v, %v; want %+v", got, err, sample())
	}
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if c, err := decodeCheckpoint(bad); err == nil {
				t.Fatalf("byte %d with bit %d flipped reads as %+v", i, bit, c)
			}
		}
		if c, err := decodeCheckpoint(good[:i]); err == nil {
			t.Fatalf("the first %d bytes read as %+v", i, c)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(sample().encode())
	f.Add((&checkpoint{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeCheckpoint(b); err == nil && string(c.encode()) != string(b) {
			t.Fatalf("%x reads as %+v and writes otherwise", b, c)
		}
	})
}

// A crash at any operation leaves the old checkpoint or the new one.
func TestCheckpointIsReplacedInOneStep(t *testing.T) {
	older, newer := sample(), sample()
	newer.low++
	for keep := 0.0; keep <= 1; keep += 0.25 {
		for stop := 1; ; stop++ {
			d := crashdisk.New(uint64(stop))
			if err := errors.Join(d.MkdirAll("/lanes"), writeCheckpoint(d, "/lanes", "midas", older)); err != nil {
				t.Fatal(err)
			}
			cut := &cutDisk{Disk: d, left: stop}
			err := writeCheckpoint(cut, "/lanes", "midas", newer)
			after := d.Crash(keep)
			got, readErr := readCheckpoint(after, lanePath("/lanes", "midas"))
			if readErr != nil {
				t.Fatalf("cut at operation %d: %v", stop, readErr)
			}
			if got.low != older.low && got.low != newer.low || err == nil && got.low != newer.low {
				t.Fatalf("cut at operation %d (%v): low is %v", stop, err, got.low)
			}
			// What a cut left behind must not be in the way.
			if err := writeCheckpoint(after, "/lanes", "midas", newer); err != nil {
				t.Fatalf("after a cut at operation %d: %v", stop, err)
			}
			if err == nil {
				break
			}
		}
	}
}

var errCut = errors.New("the power is gone")

// cutDisk fails every operation from one on.
type cutDisk struct {
	*crashdisk.Disk
	left int
}

func (d *cutDisk) on() error {
	if d.left--; d.left <= 0 {
		return errCut
	}
	return nil
}

func (d *cutDisk) Create(path string) (disk.File, error) {
	if err := d.on(); err != nil {
		return nil, err
	}
	f, err := d.Disk.Create(path)
	return &cutFile{f, d}, err
}

func (d *cutDisk) Rename(from, to string) error {
	if err := d.on(); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

func (d *cutDisk) Remove(path string) error {
	if err := d.on(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.Disk.Remove(path)
}

func (d *cutDisk) SyncDir(dir string) error {
	if err := d.on(); err != nil {
		return err
	}
	return d.Disk.SyncDir(dir)
}

type cutFile struct {
	disk.File
	disk *cutDisk
}

func (f *cutFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.disk.on(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f *cutFile) Sync() error {
	if err := f.disk.on(); err != nil {
		return err
	}
	return f.File.Sync()
}
