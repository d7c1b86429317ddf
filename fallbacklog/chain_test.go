package fallbacklog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// withoutSegment is what is left when a segment is gone.
func (h *history) withoutSegment(n uint32) *history {
	left := h.clone()
	for i, t := range h.appends {
		if t.at[0].Segment() == n {
			left.appends[i] = told{records: t.records}
		}
	}
	return left
}

func remove(t *testing.T, d *crashdisk.Disk, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := d.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func swap(t *testing.T, d *crashdisk.Disk, a, b string) {
	t.Helper()
	x, y := content(t, d, a), content(t, d, b)
	if err := errors.Join(d.WriteFile(a, y), d.WriteFile(b, x)); err != nil {
		t.Fatal(err)
	}
}

func TestAMissingSegmentIsRefusedAndReplaced(t *testing.T) {
	sound, h := closed(t)
	for n := uint32(2); n <= 3; n++ {
		d := sound.Kill()
		remove(t, d, segmentFile(int(n)))
		if err := refusedAt(d, segmentFile(int(n)), 0, 0); err != nil {
			t.Fatalf("segment %d: %v", n, err)
		}
		if err := mended(d, h.withoutSegment(n)); err != nil {
			t.Fatalf("segment %d: %v", n, err)
		}
	}
}

// A claim that is forgotten could be made again, so the front is missed like any
// other place.
func TestTheFirstSegmentIsMissed(t *testing.T) {
	d, h := closed(t)
	remove(t, d, segmentFile(1), indexFile(1))
	if damage, err := verified(d); err != nil || len(damage) != 1 || !strings.Contains(damage[0], segmentFile(1)) {
		t.Fatalf("Verify found %q, %v", damage, err)
	}
	if err := refusedAt(d, segmentFile(1), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := mended(d, h.withoutSegment(1)); err != nil {
		t.Fatal(err)
	}
}

func TestSwappedSegmentsAreRefused(t *testing.T) {
	d, h := closed(t)
	swap(t, d, segmentFile(2), segmentFile(3))
	if err := refusedAt(d, segmentFile(2), 0, 0); err != nil {
		t.Fatal(err)
	}
	// Who is who is not for Repair to guess: it says what to do.
	if done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err == nil || !strings.Contains(err.Error(), "the file holds segment 3") || len(done) > 0 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	swap(t, d, segmentFile(2), segmentFile(3))
	if err := h.check(openLog(t, small(d))); err != nil {
		t.Fatal(err)
	}
}

func TestASegmentOfAnotherNodeIsRefused(t *testing.T) {
	d, h := closed(t)
	other := crashdisk.New(5)
	o := small(other)
	o.Node = "b"
	l, err := fallbacklog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := newHistory().append(l, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile(segmentFile(2), content(t, other, segmentFile(2))); err != nil {
		t.Fatal(err)
	}
	if err := refusedAt(d, segmentFile(2), 0, fallbacklog.HeaderSize); err != nil {
		t.Fatal(err)
	}
	if damage, err := verified(d); err != nil || len(damage) == 0 {
		t.Fatalf("Verify found %q, %v", damage, err)
	}
	if done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err == nil || !strings.Contains(err.Error(), `node "b"`) || len(done) > 0 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	remove(t, d, segmentFile(2))
	if err := mended(d, h.withoutSegment(2)); err != nil {
		t.Fatal(err)
	}
	// A whole directory of another node is a mistake in the configuration.
	if _, err := fallbacklog.Open(small(other)); err == nil || !strings.Contains(err.Error(), "set `node: b`") {
		t.Fatalf("opened another node's directory: %v", err)
	}
}

// A segment of the same node and number with another past does not fit in.
func TestASegmentOfAnotherPastIsRefusedAndJoined(t *testing.T) {
	d, h := closed(t)
	other, _ := closed(t)
	if err := d.WriteFile(segmentFile(2), content(t, other, segmentFile(2))); err != nil {
		t.Fatal(err)
	}
	if err := refusedAt(d, segmentFile(2), 28, 28); err != nil {
		t.Fatal(err)
	}
	// The histories are alike, so the repaired log holds what was told.
	if err := mended(d, h); err != nil {
		t.Fatal(err)
	}
}

func TestASegmentByAnotherNameIsRefused(t *testing.T) {
	for _, name := range []string{"1.seg", "log.seg", "000000002.seg", "00000000.seg", "+0000002.seg"} {
		d, _ := closed(t)
		if err := d.WriteFile("log/"+name, content(t, d, segmentFile(2))); err != nil {
			t.Fatal(err)
		}
		if err := refusedAt(d, "log/"+name, 0, 0); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// Without its header nothing of a segment can be told from noise.
func TestASegmentWithoutAnyHeaderIsGivenUpByName(t *testing.T) {
	d, h := closed(t)
	for _, at := range []int64{20, 20 + fallbacklog.HeaderBlock} {
		if err := d.FlipBit(segmentFile(2), at, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := refusedAt(d, segmentFile(2), 0, 0); err != nil {
		t.Fatal(err)
	}
	before, err := d.List("log")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); !isCorrupt(err, segmentFile(2)) || !strings.Contains(err.Error(), "archive") {
		t.Fatalf("Repair said %v", err)
	}
	if after, err := d.List("log"); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("Repair gave up and changed %v to %v, %v", before, after, err)
	}
	remove(t, d, segmentFile(2))
	if err := mended(d, h.withoutSegment(2)); err != nil {
		t.Fatal(err)
	}
}

func TestASegmentOfALaterReleaseIsLeftAlone(t *testing.T) {
	d, _ := closed(t)
	b := content(t, d, segmentFile(3))
	b[8]++
	fallbacklog.SealHeader(b)
	if err := d.WriteFile(segmentFile(3), b); err != nil {
		t.Fatal(err)
	}
	_, err := fallbacklog.Open(small(d))
	_, err2 := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
	for _, err := range []error{err, err2} {
		if err == nil || !strings.Contains(err.Error(), "use the release that wrote it") {
			t.Fatalf("got %v", err)
		}
	}
}

// TestASealedSegmentThatWasCutShort cuts the last sealed segment where a torn
// tail would be: its index tells that it had been whole.
func TestASealedSegmentThatWasCutShort(t *testing.T) {
	sound, h := closed(t)
	b := content(t, sound, segmentFile(3))
	frames := fallbacklog.Frames(b)
	for _, f := range frames {
		d := sound.Kill()
		if err := d.WriteFile(segmentFile(3), b[:f.Offset]); err != nil {
			t.Fatal(err)
		}
		if err := refusedAt(d, segmentFile(3), f.Offset, f.Offset); err != nil {
			// The cut is inside a batch, whose head comes before.
			if err := refusedAt(d, segmentFile(3), 0, f.Offset); err != nil {
				t.Fatalf("cut at %d: %v", f.Offset, err)
			}
		}
		left := h.clone()
		for n, t := range h.appends {
			if at := t.at[len(t.at)-1]; at >= fallbacklog.At(3, uint32(f.Offset)) {
				left.appends[n] = told{records: t.records}
				if first := t.at[0]; first < fallbacklog.At(3, uint32(f.Offset)) {
					left.appends[n] = told{records: t.records, lost: t.records}
				}
			}
		}
		if err := mended(d, left); err != nil {
			t.Fatalf("cut at %d: %v", f.Offset, err)
		}
	}
}

// TestAPositionInsideAGapReadsOn damages neighbours, over which Repair lays one
// gap: who had read up to the second goes on behind the gap.
func TestAPositionInsideAGapReadsOn(t *testing.T) {
	d, _ := closed(t)
	b := content(t, d, segmentFile(2))
	var records []fallbacklog.Frame
	for _, f := range fallbacklog.Frames(b) {
		if f.Kind < fallbacklog.KindGap {
			records = append(records, f)
		}
	}
	clear(b[records[1].Offset+3 : records[3].Offset+3])
	if err := d.WriteFile(segmentFile(2), b); err != nil {
		t.Fatal(err)
	}
	done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
	if err != nil || len(done) != 1 || done[0].Kept != int64(len(records)-3) || done[0].Lost == 0 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	if got := content(t, d, done[0].Aside); string(got) != string(b) {
		t.Fatal("what was set aside is not what was there")
	}
	l := openLog(t, small(d))
	for _, f := range records[1:4] {
		if _, err := l.Read(fallbacklog.At(2, uint32(f.Offset))); !errors.Is(err, fallbacklog.ErrNotFound) {
			t.Fatalf("a lost record reads as %v", err)
		}
		r := l.Reader(fallbacklog.At(2, uint32(f.Offset)))
		rec, err := r.TryNext()
		r.Close()
		if err != nil || rec.At != fallbacklog.At(2, uint32(records[4].Offset)) {
			t.Fatalf("behind the gap: %v, %v", rec, err)
		}
	}
	// A position that was never one is no gap.
	r := l.Reader(fallbacklog.At(2, uint32(records[0].Offset+1)))
	defer r.Close()
	if rec, err := r.TryNext(); !isCorrupt(err, segmentFile(2)) {
		t.Fatalf("a position inside a record reads as %v, %v", rec, err)
	}
}

// Repair is killed at each of its operations and done again.
func TestACrashAtEveryOperationOfARepair(t *testing.T) {
	sound, h := closed(t)
	remove(t, sound, segmentFile(2))
	if err := sound.FlipBit(segmentFile(1), fallbacklog.HeaderSize+3, 1); err != nil {
		t.Fatal(err)
	}
	if err := sound.FlipBit(indexFile(3), 100, 1); err != nil {
		t.Fatal(err)
	}
	h = h.withoutSegment(2)
	var found []crash
	d := sound.Kill()
	var tapped disk.Disk = &tap{Disk: d, told: func(op, path string) {
		found = append(found, crashes(d, h, op+" "+path)...)
	}}
	if done, err := fallbacklog.Repair(tapped, "log", fallbacklog.Reached{}); err != nil || len(done) != 3 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	for _, c := range found {
		if _, err := fallbacklog.Repair(c.disk, "log", fallbacklog.Reached{}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := c.reopen(); err != nil {
			t.Fatal(err)
		}
	}
}
