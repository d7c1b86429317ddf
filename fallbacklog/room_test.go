package fallbacklog_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"manna/fallbacklog"
	"manna/internal/disk/crashdisk"
)

const prepared = "00000002.seg.next"

// toTheMiddle appends until the next segment's room is being prepared.
func toTheMiddle(t *testing.T, l *fallbacklog.Log, h *history) {
	t.Helper()
	for l.End().Offset() < fallbacklog.MinSegment/2+5000 {
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func has(t *testing.T, d *crashdisk.Disk, name string) bool {
	t.Helper()
	names, err := d.List("log")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(names, name)
}

// TestThePreparedRoomIsGivenUpForAppends fills the disk but for the room that has
// been prepared for the next segment: a record that needs it gets it.
func TestThePreparedRoomIsGivenUpForAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(36)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		h.size = 4000
		toTheMiddle(t, l, h)
		if !has(t, d, prepared) {
			t.Fatal("no room was prepared for the next segment")
		}
		d.SetCapacity(d.Used())
		h.size = 60_000
		n, recs := h.begin(1)
		if err := l.Append(t.Context(), recs...); err != nil {
			t.Fatalf("append %d: %v", n, err)
		}
		if has(t, d, prepared) {
			t.Fatal("the prepared room is still there")
		}
		d.SetCapacity(1 << 40)
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAPreparedRoomThatFailedIsNotUsed lets an allocation in it fail.
func TestAPreparedRoomThatFailedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(37)
		var made atomic.Int32
		l, err := fallbacklog.Open(small(&tap{Disk: d, told: func(op, path string) {
			if path == prepared && op == "create" && made.Add(1) == 1 {
				d.FailAt(crashdisk.OpAllocate, 1, errIO, false)
			}
		}}))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		h.size = 4000
		toTheMiddle(t, l, h)
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
		if made.Load() != 2 {
			t.Fatalf("the next segment was made %d times, want once more after the failure", made.Load())
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNothingPreparedIsLeft closes a log with a room prepared.
func TestNothingPreparedIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(38)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		h.size = 4000
		toTheMiddle(t, l, h)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := d.List("log")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".next") {
				t.Fatalf("Close left %v", names)
			}
		}
	})
}
