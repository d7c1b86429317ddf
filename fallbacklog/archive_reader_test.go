package fallbacklog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/cache"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func openArchive(t *testing.T, b bucket.Bucket, d disk.Disk, bytes int64) *fallbacklog.Archive {
	t.Helper()
	a, err := fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: b, Cache: "cache", CacheBytes: bytes, Disk: d})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// archived archives the log that closed leaves, and gives its disk and the archive's.
func archived(t *testing.T) (from, to *crashdisk.Disk, h *history) {
	t.Helper()
	from, h = closed(t)
	to = crashdisk.New(2)
	synctest.Test(t, func(t *testing.T) {
		l, err := fallbacklog.Open(small(from))
		if err != nil {
			t.Fatal(err)
		}
		_, stop := archiving(t, l, to)
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		stop()
	})
	return from.Kill(), to, h
}

// counting counts what is read of a bucket.
type counting struct {
	bucket.Bucket
	gets atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	c.gets.Add(1)
	return c.Bucket.Get(ctx, key, offset, length)
}

// allRows gives the rows of indexes, each in its order.
func allRows(t *testing.T, indexes []*fallbacklog.Index) (rows []fallbacklog.Row) {
	t.Helper()
	for _, x := range indexes {
		for row, err := range x.All() {
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// TestTheArchiveReadsLikeTheLog: the same indexes, and at each position the same
// record.
func TestTheArchiveReadsLikeTheLog(t *testing.T) {
	from, to, _ := archived(t)
	l, err := fallbacklog.Open(small(from))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := &counting{Bucket: directory.New(to, "archive")}
	cached := crashdisk.New(3)
	a := openArchive(t, b, cached, 0)
	x, err := a.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if x.Node() != "a" || x.AsOf().IsZero() || x.AsOf() != x.Manifest().AsOf || x.End() != fallbacklog.At(4, fallbacklog.HeaderSize) {
		t.Errorf("node %s as of %v, up to %v", x.Node(), x.AsOf(), x.End())
	}
	indexes, err := x.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows := allRows(t, indexes)
	if want := allRows(t, l.Indexes()); len(rows) == 0 || !slices.Equal(rows, want) {
		t.Fatalf("%d rows, the log has %d", len(rows), len(want))
	}
	for range 8 { // in parts first, of a copy later
		for _, row := range rows {
			want, err := l.Read(row.At)
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Read(t.Context(), row.At)
			if err != nil || got.At != want.At || got.Kind != want.Kind {
				t.Fatalf("at %v: %+v, %v, want %+v", row.At, got, err, want)
			}
			id, name := idOf(got)
			if wantID, wantName := idOf(want); id != wantID || name != wantName {
				t.Fatalf("at %v: %s, want %s", row.At, name, wantName)
			}
		}
	}
	for _, at := range []fallbacklog.Position{0, 7, fallbacklog.At(1, 0), fallbacklog.At(4, fallbacklog.HeaderSize), fallbacklog.At(1, 1<<30), fallbacklog.At(1, fallbacklog.HeaderSize)} {
		if rec, err := x.Read(t.Context(), at); !errors.Is(err, fallbacklog.ErrNotFound) {
			t.Errorf("at %v: %+v, %v", at, rec, err)
		}
	}
	if rec, err := x.Read(t.Context(), rows[0].At+1); !isCorrupt(err, "a/0000000"+rows[0].At.String()[:1]+".seg") {
		t.Errorf("inside a record: %+v, %v", rec, err)
	}
	if err := errors.Join(x.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	// Another process finds the indexes in the cache.
	gets := b.gets.Load()
	a = openArchive(t, b, cached, 0)
	if x, err = a.Open(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if indexes, err = x.Indexes(t.Context()); err != nil || !slices.Equal(allRows(t, indexes), rows) {
		t.Fatalf("other indexes: %v", err)
	}
	if more := b.gets.Load() - gets; more != 1 {
		t.Errorf("%d objects fetched again, want the manifest alone", more)
	}
	if err := errors.Join(x.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLargeRecordsAreReadWhole: larger than what is read ahead.
func TestLargeRecordsAreReadWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, small(crashdisk.New(1)))
		h := newHistory()
		h.size = 60_000
		for range 3 {
			if err := h.append(l, 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		to := crashdisk.New(2)
		_, stop := archiving(t, l, to)
		synctest.Wait()
		stop()
		a := openArchive(t, directory.New(to, "archive"), crashdisk.New(3), 0)
		x, err := a.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range allRows(t, l.Indexes()) {
			if rec, err := x.Read(t.Context(), row.At); err != nil || rec.At != row.At {
				t.Fatalf("at %v: %+v, %v", row.At, rec, err)
			}
		}
		if err := errors.Join(x.Close(), a.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamageInTheArchiveIsLoud: of an index, and of a segment.
func TestDamageInTheArchiveIsLoud(t *testing.T) {
	_, to, _ := archived(t)
	if err := errors.Join(to.FlipBit("archive/a/00000002.idx", 100, 3), to.FlipBit("archive/a/00000001.seg", fallbacklog.HeaderSize+fallbacklog.BatchFrame+30, 3)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // what is damaged is fetched again, with pauses
		a := openArchive(t, directory.New(to, "archive"), crashdisk.New(3), 0)
		x, err := a.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Indexes(t.Context()); err == nil || !strings.Contains(err.Error(), "a/00000002.idx") || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("a damaged index: %v", err)
		}
		at := fallbacklog.At(1, fallbacklog.HeaderSize+fallbacklog.BatchFrame)
		if rec, err := x.Read(t.Context(), at); err == nil || !strings.Contains(err.Error(), "a/00000001.seg") {
			t.Errorf("a damaged record: %+v, %v", rec, err)
		}
		if err := errors.Join(x.Close(), a.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIndexesHaveToFitIntoTheCache and records do not.
func TestIndexesHaveToFitIntoTheCache(t *testing.T) {
	_, to, _ := archived(t)
	a := openArchive(t, directory.New(to, "archive"), crashdisk.New(3), 10_000)
	x, err := a.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Indexes(t.Context()); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("more than fits: %v", err)
	}
	at := fallbacklog.At(1, fallbacklog.HeaderSize+fallbacklog.BatchFrame)
	for range 40 {
		if _, err := x.Read(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(x.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestTheArchivedDirectoryVerifies: what `log verify --dir` reads is the same log,
// beside the manifest.
func TestTheArchivedDirectoryVerifies(t *testing.T) {
	from, to, h := archived(t)
	wantArchived(t, from, to, 3)
	var restored bytes.Buffer
	for rec, err := range fallbacklog.Records(to, "archive/a") {
		if err != nil {
			t.Fatal(err)
		}
		_, name := idOf(rec)
		restored.WriteString(name)
	}
	if restored.Len() == 0 || h.next != 12 {
		t.Fatalf("%d bytes of names", restored.Len())
	}
}

// TestAnArchiveTellsWhatALogHasLost: all that was lost before it was archived, also
// before the `lost` record arrives, and nothing that was archived in time.
func TestAnArchiveTellsWhatALogHasLost(t *testing.T) {
	damages := map[string]func(t *testing.T, d *crashdisk.Disk, grant fallbacklog.Position){
		"records": func(t *testing.T, d *crashdisk.Disk, grant fallbacklog.Position) {
			if err := d.FlipBit(segmentFile(2), int64(grant.Offset())+20, 1); err != nil {
				t.Fatal(err)
			}
		},
		"a segment": func(t *testing.T, d *crashdisk.Disk, _ fallbacklog.Position) {
			remove(t, d, segmentFile(2), indexFile(2))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, grant := night(t)
				before, after := crashdisk.New(2), crashdisk.New(3)
				archive := func(to *crashdisk.Disk, seal bool) []fallbacklog.Loss {
					t.Helper()
					l := openLog(t, small(d))
					if seal {
						if _, err := l.Seal(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					_, stop := archiving(t, l, to)
					synctest.Wait()
					stop()
					own, err := l.Losses()
					if err := errors.Join(err, l.Close()); err != nil {
						t.Fatal(err)
					}
					return own
				}
				losses := func(of *crashdisk.Disk) []fallbacklog.Loss {
					t.Helper()
					a := openArchive(t, directory.New(of, "archive"), crashdisk.New(4), 0)
					x, err := a.Open(t.Context(), "a")
					if err != nil {
						t.Fatal(err)
					}
					list, err := x.Losses(t.Context())
					if err := errors.Join(err, x.Close(), a.Close()); err != nil {
						t.Fatal(err)
					}
					return list
				}
				archive(before, false)
				if got := losses(before); len(got) != 0 {
					t.Fatalf("a whole log has lost %+v", got)
				}
				damage(t, d, grant)
				if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil {
					t.Fatal(err)
				}
				// The `lost` record is in the segment that is being written.
				own := archive(after, false)
				if len(own) != 1 {
					t.Fatalf("the log has lost %+v", own)
				}
				want := own[0]
				got := losses(after)
				if len(got) != 1 || got[0].Segment != 2 || got[0].Bytes != want.Bytes || got[0].Repair != want.Repair || !got[0].From.Equal(want.From) || got[0].Until.Before(want.Until) {
					t.Fatalf("before the record arrives, lost are %+v, want %+v at least", got, want)
				}
				archive(after, true)
				if got := losses(after); len(got) != 1 || got[0] != want || want.Doubts != 3 {
					t.Fatalf("lost are %+v, want %+v with 3 doubts", got, want)
				}
				archive(before, true)
				if got := losses(before); len(got) != 0 {
					t.Fatalf("the archive had it all, and has lost %+v", got)
				}
			})
		})
	}
}
