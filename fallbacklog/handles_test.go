package fallbacklog_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// handles is a disk that counts which files are open for reading.
type handles struct {
	disk.Disk
	of string // the ending of their names

	mu    sync.Mutex
	open  int
	most  int
	times map[string]int // how often each was opened
}

func newHandles(d disk.Disk, of string) *handles {
	return &handles{Disk: d, of: of, times: make(map[string]int)}
}

func (h *handles) OpenRead(path string) (disk.File, error) {
	f, err := h.Disk.OpenRead(path)
	if err != nil || !strings.HasSuffix(path, h.of) {
		return f, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	h.most = max(h.most, h.open)
	h.times[filepath.Base(path)]++
	return &handle{f, h}, nil
}

type handle struct {
	disk.File
	of *handles
}

func (h *handle) Close() error {
	h.of.mu.Lock()
	h.of.open--
	h.of.mu.Unlock()
	return h.File.Close()
}

const (
	manySegments = 300
	fewFiles     = 16
)

// many leaves a log of manySegments: in each a claim, and a deferral of one order that
// has records in all of them.
func many(t *testing.T) *crashdisk.Disk {
	t.Helper()
	d := crashdisk.New(50)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	everywhere := claimRecord("everywhere").Claim
	for n := range manySegments {
		deferred := &fallbacklog.Record{Kind: fallbacklog.Deferred, Time: when, Event: &fallbacklog.Event{Order: everywhere.Orders[0].ID, Claim: everywhere.ID, Partner: "midas", Attempts: n + 1}}
		if err := l.Append(t.Context(), claimRecord(fmt.Sprint(n)), deferred); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Kill()
}

// TestManySegmentsNeedFewFiles: a log of many segments is opened and looked up with few
// files, and its newest indexes stay open.
func TestManySegmentsNeedFewFiles(t *testing.T) {
	h := newHandles(many(t), ".idx")
	o := small(h)
	o.IndexFiles = fewFiles
	l, err := fallbacklog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	everywhere := claimRecord("everywhere").Claim.Orders[0].ID
	look := func() {
		if rows, err := l.Lookup(everywhere); err != nil || len(rows) != manySegments {
			t.Errorf("an order with a record in each segment has %d, %v", len(rows), err)
		}
	}
	look()
	clear(h.times)
	look()
	opened := slices.Sorted(maps.Keys(h.times))
	if want := manySegments - fewFiles + 1; len(opened) != want || opened[want-1] != fmt.Sprintf("%08d.idx", want) {
		t.Errorf("a look-up opens %d indexes, up to %v; want the oldest %d", len(opened), opened[len(opened)-1:], want)
	}
	var work sync.WaitGroup
	for who := range 8 {
		work.Go(func() {
			look()
			for n := who; n < manySegments; n += 64 {
				rec := claimRecord(fmt.Sprint(n))
				if claim, stories, err := l.Claim(rec.Claim.ID); err != nil || claim.User != rec.Claim.User || len(stories) != 1 {
					t.Errorf("claim %d: %v, %v", n, claim, err)
				}
				if row, ok, err := l.Last(everywhere); !ok || err != nil || row.At.Segment() != manySegments {
					t.Errorf("the last row is %+v, %v, %v", row, ok, err)
				}
			}
			if rows := allRows(t, l.Indexes()); len(rows) != 3*manySegments {
				t.Errorf("%d rows, want %d", len(rows), 3*manySegments)
			}
		})
	}
	work.Wait()
	if h.most > fewFiles {
		t.Errorf("%d indexes were open at a time, want at most %d", h.most, fewFiles)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if h.open != 0 {
		t.Errorf("%d indexes are open after Close", h.open)
	}
	if _, err := l.Lookup(everywhere); !errors.Is(err, fallbacklog.ErrClosed) {
		t.Errorf("a look-up after Close: %v, want ErrClosed", err)
	}
}

// TestManyArchivedLogsNeedFewFiles: the logs of an archive share them, whatever nodes
// they are of.
func TestManyArchivedLogsNeedFewFiles(t *testing.T) {
	const segments = 40
	synctest.Test(t, func(t *testing.T) {
		to := crashdisk.New(51)
		for _, node := range []string{"a", "b"} {
			o := small(crashdisk.New(52))
			o.Node = node
			l, err := fallbacklog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for range segments {
				if err := l.Append(t.Context(), claimRecord(node)); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			_, stop := archiving(t, l, to)
			synctest.Wait()
			stop()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		h := newHandles(crashdisk.New(53), "")
		a, err := fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: directory.New(to, "archive"), Cache: "cache", Disk: h, IndexFiles: fewFiles})
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := a.Nodes(t.Context())
		if err != nil || len(nodes) != 2 {
			t.Fatalf("%d nodes, %v", len(nodes), err)
		}
		var work sync.WaitGroup
		for _, n := range nodes {
			work.Go(func() {
				x := a.OpenAs(n.Manifest)
				indexes, err := x.Indexes(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					rows := 0
					for _, index := range indexes {
						rows += int(index.Rows())
					}
					if got := allRows(t, indexes); len(got) != rows || rows < segments {
						t.Errorf("node %s has %d rows, its indexes say %d", n.Node, len(got), rows)
					}
				}
				if err := x.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if h.most > fewFiles {
			t.Errorf("%d copies were open at a time, want at most %d", h.most, fewFiles)
		}
		if h.open != 0 {
			t.Errorf("%d copies are open after the logs were closed", h.open)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
