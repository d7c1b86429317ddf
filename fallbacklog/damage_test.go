package fallbacklog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// closed is a log of three sealed segments, and the history of its appends.
func closed(t *testing.T) (*crashdisk.Disk, *history) {
	t.Helper()
	d := crashdisk.New(4)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	h := newHistory()
	for i := range 12 {
		if err := h.append(l, 1+i%2); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 && i < 11 {
			if _, err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Crash(0), h
}

func segmentFile(n int) string { return fmt.Sprintf("log/%08d.seg", n) }
func indexFile(n int) string   { return fmt.Sprintf("log/%08d.idx", n) }

// frameOf gives where the frame, or header block, around an offset begins.
func frameOf(b []byte, at int) int {
	if at < fallbacklog.HeaderSize {
		return at / fallbacklog.HeaderBlock * fallbacklog.HeaderBlock
	}
	for _, f := range fallbacklog.Frames(b) {
		if at < f.End {
			return f.Offset
		}
	}
	return len(b)
}

// without is what has to be there still when the frame at offset of a segment is
// gone: of an append that had a record there, nothing is asked.
func (h *history) without(segment uint32, offset int) *history {
	left := h.clone()
	for n, t := range h.appends {
		for i, at := range t.at {
			if at == fallbacklog.At(segment, uint32(offset)) {
				left.appends[n] = told{records: t.records, lost: i + 1}
			}
		}
	}
	return left
}

// refusedAt opens a damaged log and checks that it is refused by the name of the
// file and the place.
func refusedAt(d disk.Disk, path string, from, to int) error {
	l, err := fallbacklog.Open(small(d))
	if err == nil {
		l.Close()
		return errors.New("opened")
	}
	corrupt, ok := errors.AsType[*fallbacklog.CorruptError](err)
	if !ok || corrupt.Path != path || corrupt.Offset < int64(from) || corrupt.Offset > int64(to) {
		return fmt.Errorf("want a CorruptError at %s, %d to %d, got %w", path, from, to, err)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprint(corrupt.Offset)) {
		return fmt.Errorf("the message does not say where: %w", err)
	}
	return nil
}

// verified reads the whole log and gives the damage that was found.
func verified(d disk.Disk) (damage []string, err error) {
	sound, err := fallbacklog.Verify(d, "log", fallbacklog.Reached{}, func(v fallbacklog.Verdict) error {
		damage = append(damage, v.Damage...)
		return nil
	})
	if sound != (len(damage) == 0) && err == nil {
		err = fmt.Errorf("sound is %v with damage %q", sound, damage)
	}
	return damage, err
}

// mended repairs a damaged log and checks that it is whole again, and that it
// holds what it has to.
func mended(d *crashdisk.Disk, h *history) error {
	if damage, err := verified(d); err != nil || len(damage) == 0 {
		return fmt.Errorf("Verify found %q, %v", damage, err)
	}
	done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
	if err != nil || len(done) != 1 {
		return fmt.Errorf("Repair did %+v, %v", done, err)
	}
	d = d.Crash(0)
	if damage, err := verified(d); err != nil || len(damage) > 0 {
		return fmt.Errorf("after the repair Verify found %q, %v", damage, err)
	}
	if again, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil || len(again) > 0 {
		return fmt.Errorf("a second repair did %+v, %v", again, err)
	}
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		return fmt.Errorf("open the repaired log: %w", err)
	}
	return errors.Join(h.check(l), l.Close())
}

// everyByte calls do for each byte of a segment, and for few of those in the
// padding of its header.
func everyByte(b []byte, do func(at int)) {
	for at := range b {
		if in := at % fallbacklog.HeaderBlock; at < fallbacklog.HeaderSize && in > 70 && in < 508 && at%61 != 0 {
			continue
		}
		do(at)
	}
}

// TestAFlippedBitInASealedSegment flips a bit in each byte of the first, middle
// and last sealed segment.
func TestAFlippedBitInASealedSegment(t *testing.T) {
	sound, h := closed(t)
	for n := uint32(1); n <= 3; n++ {
		path := segmentFile(int(n))
		b := content(t, sound, path)
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			everyByte(b, func(at int) {
				d := sound.Kill()
				if err := d.FlipBit(path, int64(at), at%8); err != nil {
					t.Fatal(err)
				}
				frame := frameOf(b, at)
				if err := refusedAt(d, path, frame, at); err != nil {
					t.Fatalf("byte %d: %v", at, err)
				}
				if err := mended(d, h.without(n, frame)); err != nil {
					t.Fatalf("byte %d: %v", at, err)
				}
			})
		})
	}
}

// TestAFlippedBitInAKilledSegment flips a bit in each byte of the active segment
// of a log that was killed while it was idle.
func TestAFlippedBitInAKilledSegment(t *testing.T) {
	t.Parallel()
	dead, h := killed(t, 3)
	b := content(t, dead, active)
	frames := fallbacklog.Frames(b)
	idle := frames[len(frames)-1]
	everyByte(b[:idle.End+20], func(at int) {
		d := dead.Kill()
		if err := d.FlipBit(active, int64(at), at%8); err != nil {
			t.Fatal(err)
		}
		if at < idle.Offset {
			frame := frameOf(b, at)
			if err := refusedAt(d, active, frame, at); err != nil {
				t.Fatalf("byte %d: %v", at, err)
			}
			if err := mended(d, h.without(1, frame)); err != nil {
				t.Fatalf("byte %d: %v", at, err)
			}
			return
		}
		// Nobody was told of anything from there on.
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
	})
}

// TestAFlippedBitInAnIndex flips a bit in bytes of an index: Open rebuilds it.
func TestAFlippedBitInAnIndex(t *testing.T) {
	t.Parallel()
	sound, h := closed(t)
	b := content(t, sound, indexFile(2))
	for at := range b {
		if at%31 != 0 && at > 250 && at < fallbacklog.PageSize {
			continue // the page's padding
		}
		d := sound.Kill()
		if err := d.FlipBit(indexFile(2), int64(at), at%8); err != nil {
			t.Fatal(err)
		}
		if damage, err := verified(d); err != nil || len(damage) != 1 {
			t.Fatalf("byte %d: Verify found %q, %v", at, damage, err)
		}
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if damage, err := verified(d); err != nil || len(damage) > 0 {
			t.Fatalf("byte %d: after Open Verify found %q, %v", at, damage, err)
		}
	}
}

// TestAnIndexThatRotsInUseIsRefused damages a page after Open: look-ups fail, they
// do not answer wrongly. Repair takes the index away.
func TestAnIndexThatRotsInUseIsRefused(t *testing.T) {
	t.Parallel()
	d, h := closed(t)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.FlipBit(indexFile(1), 30, 0); err != nil {
		t.Fatal(err)
	}
	id, _ := idOf(h.record(0, 0))
	if rows, err := l.Lookup(id); !isCorrupt(err, indexFile(1)) {
		t.Fatalf("got %v, %v", rows, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mended(d, h); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains([]byte(fmt.Sprint(d.List("log"))), []byte("00000001.idx.damaged")) {
		t.Fatal("the damaged index was not kept")
	}
}

func isCorrupt(err error, path string) bool {
	corrupt, ok := errors.AsType[*fallbacklog.CorruptError](err)
	return ok && corrupt.Path == path
}
