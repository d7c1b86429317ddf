package fallbacklog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func restore(t *testing.T, to, d disk.Disk, numbers ...uint32) ([]fallbacklog.Restored, error) {
	t.Helper()
	return fallbacklog.Restore(t.Context(), directory.New(to, "archive"), "a", d, "log", numbers...)
}

// wantRestored checks that the log is whole again, also after a power loss.
func wantRestored(t *testing.T, d, whole *crashdisk.Disk, h *history) {
	t.Helper()
	d = d.Crash(0)
	for i := 1; i <= 3; i++ {
		for _, path := range []string{segmentFile(i), indexFile(i)} {
			if string(content(t, d, path)) != string(content(t, whole, path)) {
				t.Fatalf("%s is not as it was", path)
			}
		}
	}
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.check(l), l.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRestore(t *testing.T) {
	whole, to, h := archived(t)
	sound := func(d *crashdisk.Disk) error { return nil }
	for name, harm := range map[string]func(d *crashdisk.Disk) error{
		"nothing":             sound,
		"a missing segment":   func(d *crashdisk.Disk) error { return d.Remove(segmentFile(2)) },
		"the last is missing": func(d *crashdisk.Disk) error { return d.Remove(segmentFile(3)) },
		"a flipped record":    func(d *crashdisk.Disk) error { return d.FlipBit(segmentFile(2), fallbacklog.HeaderSize+60, 1) },
		"both header blocks": func(d *crashdisk.Disk) error {
			return errors.Join(d.FlipBit(segmentFile(1), 20, 1), d.FlipBit(segmentFile(1), fallbacklog.HeaderBlock+20, 1))
		},
		"a lost footer": func(d *crashdisk.Disk) error {
			b := content(t, d, segmentFile(2))
			return d.WriteFile(segmentFile(2), b[:len(b)-40])
		},
		"an empty file": func(d *crashdisk.Disk) error { return d.WriteFile(segmentFile(2), nil) },
		"repaired with a loss": func(d *crashdisk.Disk) error {
			if err := d.FlipBit(segmentFile(2), fallbacklog.HeaderSize+60, 1); err != nil {
				return err
			}
			_, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
			return err
		},
		"repaired without anything": func(d *crashdisk.Disk) error {
			if err := d.Remove(segmentFile(2)); err != nil {
				return err
			}
			_, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
			return err
		},
		"an older copy that was opened": func(d *crashdisk.Disk) error {
			b := content(t, d, segmentFile(3))
			err := errors.Join(d.WriteFile(segmentFile(3), b[:len(b)-fallbacklog.FooterFrame-5]), d.Remove(indexFile(3)), d.Remove(segmentFile(4)))
			if err != nil {
				return err
			}
			return openLog(t, small(d)).Close()
		},
		"a much older copy that was opened": func(d *crashdisk.Disk) error {
			err := errors.Join(d.Remove(segmentFile(3)), d.Remove(indexFile(3)), d.Remove(segmentFile(4)))
			if err != nil {
				return err
			}
			return openLog(t, small(d)).Close()
		},
		"everything": func(d *crashdisk.Disk) error {
			var errs []error
			for i := 1; i <= 3; i++ {
				errs = append(errs, d.Remove(segmentFile(i)), d.Remove(indexFile(i)))
			}
			return errors.Join(errs...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := whole.Kill()
			if err := harm(d); err != nil {
				t.Fatal(err)
			}
			var harmed []string
			for i := 1; i <= 3; i++ {
				if names, _ := d.List("log"); slices.Contains(names, fmt.Sprintf("%08d.seg", i)) {
					harmed = append(harmed, string(content(t, d, segmentFile(i))))
				}
			}
			done, err := restore(t, to, d, 3, 1, 2, 2)
			if err != nil || len(done) != 3 {
				t.Fatalf("%+v, %v", done, err)
			}
			for i, r := range done {
				if r.Segment != uint32(i+1) {
					t.Errorf("%+v in the place of %d", r, i+1)
				}
				if r.Aside != "" && !slices.Contains(harmed, string(content(t, d, r.Aside))) {
					t.Errorf("%s is not what was there", r.Aside)
				}
			}
			wantRestored(t, d, whole, h)
			// Nothing is left to do.
			again, err := restore(t, to, d, 1, 2, 3)
			if err != nil || slices.ContainsFunc(again, func(r fallbacklog.Restored) bool { return r.Bytes > 0 || r.Aside != "" }) {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// TestRestoreRefuses what does not belong, and leaves everything as it was.
func TestRestoreRefuses(t *testing.T) {
	whole, to, _ := archived(t)
	other := crashdisk.New(77)
	l := openLog(t, small(other))
	h := newHistory()
	for range 3 {
		if err := h.append(l, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		numbers []uint32
		harm    func(d, to *crashdisk.Disk) error
	}{
		"is not in the archive, which has 1 to 3": {[]uint32{4}, func(d, to *crashdisk.Disk) error { return nil }},
		"segment 0": {[]uint32{0}, func(d, to *crashdisk.Disk) error { return nil }},
		"is a sound segment of another log": {[]uint32{2}, func(d, to *crashdisk.Disk) error {
			return d.WriteFile(segmentFile(2), content(t, other, segmentFile(2)))
		}},
		"does not follow log/00000001.seg": {[]uint32{2}, func(d, to *crashdisk.Disk) error {
			return errors.Join(d.Remove(segmentFile(2)), d.WriteFile(segmentFile(1), content(t, other, segmentFile(1))))
		}},
		"log/00000003.seg does not follow": {[]uint32{2}, func(d, to *crashdisk.Disk) error {
			return errors.Join(d.Remove(segmentFile(2)), d.WriteFile(segmentFile(3), content(t, other, segmentFile(3))))
		}},
		"a/00000002.seg in file://archive is damaged": {[]uint32{2}, func(d, to *crashdisk.Disk) error {
			return errors.Join(d.Remove(segmentFile(2)), to.FlipBit("archive/a/00000002.seg", fallbacklog.HeaderSize+60, 1))
		}},
		bucket.ErrNotFound.Error(): {[]uint32{2}, func(d, to *crashdisk.Disk) error {
			return errors.Join(d.Remove(segmentFile(2)), to.Remove("archive/a/00000002.seg"))
		}},
	} {
		d, to := whole.Kill(), to.Kill()
		if err := c.harm(d, to); err != nil {
			t.Fatal(err)
		}
		before, err := d.List("log")
		if err != nil {
			t.Fatal(err)
		}
		if done, err := restore(t, to, d, c.numbers...); err == nil || !strings.Contains(err.Error(), want) || len(done) > 0 {
			t.Errorf("want %q: %+v, %v", want, done, err)
		}
		if after, err := d.List("log"); err != nil || !slices.Equal(before, after) {
			t.Errorf("%s: the log holds %v after %v, %v", want, after, before, err)
		}
	}
}

func TestRestoreNeedsTheDirectoryToItself(t *testing.T) {
	whole, to, _ := archived(t)
	d := whole.Kill()
	l := openLog(t, small(d))
	if done, err := restore(t, to, d, 1); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("beside a running log: %+v, %v", done, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestACrashAtEveryOperationOfRestore: the damaged segment is there, or the archived
// one; nothing of the damaged one is lost; and the next Restore ends it.
func TestACrashAtEveryOperationOfRestore(t *testing.T) {
	whole, to, h := archived(t)
	harmed := whole.Kill()
	if err := harmed.FlipBit(segmentFile(2), fallbacklog.HeaderSize+60, 1); err != nil {
		t.Fatal(err)
	}
	damaged := string(content(t, harmed, segmentFile(2)))
	d := harmed.Kill()
	var found []crash
	if _, err := restore(t, to, &tap{Disk: d, told: func(op, path string) {
		found = append(found, crashes(d, newHistory(), op+" "+path)...)
	}}, 2); err != nil {
		t.Fatal(err)
	}
	if len(found) < 40 {
		t.Fatalf("only %d crashes were taken", len(found))
	}
	for _, c := range found {
		now := string(content(t, c.disk, segmentFile(2)))
		switch names, err := c.disk.List("log"); {
		case err != nil:
			t.Fatal(err)
		case now == damaged:
		case now != string(content(t, whole, segmentFile(2))):
			t.Fatalf("%s: the segment is neither the damaged nor the archived one", c.name)
		case !slices.ContainsFunc(names, func(name string) bool {
			return strings.HasSuffix(name, ".damaged") && string(content(t, c.disk, "log/"+name)) == damaged
		}):
			t.Fatalf("%s: the damaged segment is gone: %v", c.name, names)
		}
		if _, err := restore(t, to, c.disk, 2); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		l, err := fallbacklog.Open(small(c.disk))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
}
