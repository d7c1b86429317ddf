package fallbacklog_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk/crashdisk"
)

// said is a log's text. Safe for concurrent use.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) has(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), part)
}

// telling runs an archiver and gives what it says.
func telling(t *testing.T, l *fallbacklog.Log, b bucket.Bucket) (a *fallbacklog.Archiver, told *said, stop func()) {
	t.Helper()
	told = &said{}
	a, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: l, Bucket: b, Logger: slog.New(slog.NewTextHandler(told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, told, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheLaterOfTwoArchivers of one name goes on, and the earlier one says why it does
// not.
func TestTheLaterOfTwoArchivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, small(crashdisk.New(1)))
		b := directory.New(crashdisk.New(2), "archive")
		_, earlier, stopEarlier := telling(t, l, b)
		synctest.Wait()
		time.Sleep(30 * time.Second)
		_, later, stopLater := telling(t, l, b)
		synctest.Wait()
		writer := manifestOf(t, b, "a").Writer
		time.Sleep(time.Hour)
		m := manifestOf(t, b, "a")
		if m.Writer != writer || time.Since(m.Written) > time.Minute {
			t.Errorf("%s wrote %v ago, want %s to", m.Writer, time.Since(m.Written), writer)
		}
		if !earlier.has("another process archives as node") || later.has("level=ERROR") {
			t.Errorf("the earlier one said %s; the later one %s", &earlier.text, &later.text)
		}
		stopEarlier()
		stopLater()
	})
}

// TestAManifestThatIsMovedAway is made anew by the archiver that runs, as the error
// about one that cannot be read says.
func TestAManifestThatIsMovedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		to := crashdisk.New(2)
		b := directory.New(to, "archive")
		_, told, stop := telling(t, openLog(t, small(d)), b)
		synctest.Wait()
		before := manifestOf(t, b, "a")
		if err := to.Remove("archive/a/manifest.json"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		after := manifestOf(t, b, "a")
		if len(after.Segments) != len(before.Segments) || after.Writer != before.Writer || time.Since(after.Written) > time.Minute {
			t.Errorf("the manifest is %+v, was %+v: %s", after, before, &told.text)
		}
		stop()
	})
}

// TestAnotherLogOfTheSameName archives nothing: neither an empty one, nor one that
// has more segments.
func TestAnotherLogOfTheSameName(t *testing.T) {
	for name, c := range map[string]struct {
		segments int
		says     string
	}{
		"empty":   {0, "and this log has 0: it is another log"},
		"shorter": {1, "and this log has 1: it is another log"},
		"longer":  {5, "lists another segment 1 than this log has"},
	} {
		t.Run(name, func(t *testing.T) {
			segments := c.segments
			synctest.Test(t, func(t *testing.T) {
				d, _ := closed(t)
				to := crashdisk.New(2)
				b := directory.New(to, "archive")
				_, _, stop := telling(t, openLog(t, small(d)), b)
				synctest.Wait()
				stop()
				before := manifestOf(t, b, "a")
				names, _ := to.List("archive/a")

				other := openLog(t, small(crashdisk.New(99)))
				h := newHistory()
				for range segments {
					if err := h.append(other, 3); err != nil {
						t.Fatal(err)
					}
					if _, err := other.Seal(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				a, told, stop := telling(t, other, b)
				time.Sleep(time.Hour)
				stop()
				if after := manifestOf(t, b, "a"); after.Revision != before.Revision || !told.has(c.says) || a.Behind() != segments {
					t.Errorf("revision %d after %d, %d behind: %s", after.Revision, before.Revision, a.Behind(), &told.text)
				}
				if now, _ := to.List("archive/a"); len(now) != len(names) {
					t.Errorf("the archive holds %v after %v", now, names)
				}
			})
		})
	}
}

// TestALostManifestIsMadeAnew from what is in the archive.
func TestALostManifestIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l := openLog(t, small(d))
		to := crashdisk.New(2)
		b := directory.New(to, "archive")
		_, _, stop := telling(t, l, b)
		synctest.Wait()
		stop()
		before := manifestOf(t, b, "a")
		// An index that was lost or damaged with it is made anew too.
		if err := errors.Join(to.Remove("archive/a/manifest.json"), to.Remove("archive/a/00000001.idx"), to.FlipBit("archive/a/00000002.idx", 50, 1)); err != nil {
			t.Fatal(err)
		}
		_, told, stop := telling(t, l, b)
		synctest.Wait()
		stop()
		if told.has("level=ERROR") {
			t.Fatalf("it said %s", &told.text)
		}
		after := manifestOf(t, b, "a")
		for i := range before.Segments {
			if after.Segments[i].SHA256 != before.Segments[i].SHA256 || after.Segments[i].Index != before.Segments[i].Index {
				t.Errorf("segment %d is %+v, was %+v", i+1, after.Segments[i], before.Segments[i])
			}
		}
		wantArchived(t, d, to, 3)
	})
}

// TestALostArchivedSegment is archived again, and loudly.
func TestALostArchivedSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l := openLog(t, small(d))
		to := crashdisk.New(2)
		b := directory.New(to, "archive")
		_, _, stop := telling(t, l, b)
		synctest.Wait()
		stop()
		if err := to.Remove("archive/a/00000002.seg"); err != nil {
			t.Fatal(err)
		}
		_, told, stop := telling(t, l, b)
		synctest.Wait()
		stop()
		if !told.has("an archived segment is gone") {
			t.Errorf("it said %s", &told.text)
		}
		wantArchived(t, d, to, 3)
	})
}

// TestAnUnlistedSegmentIsReadThrough before it is listed: the archiver was killed
// before its manifest, and the copy has been damaged since.
func TestAnUnlistedSegmentIsReadThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l := openLog(t, small(d))
		to := crashdisk.New(2)
		b := directory.New(to, "archive")
		_, _, stop := telling(t, l, b)
		synctest.Wait()
		stop()
		if err := errors.Join(to.Remove("archive/a/manifest.json"), to.FlipBit("archive/a/00000002.seg", fallbacklog.HeaderSize+50, 1)); err != nil {
			t.Fatal(err)
		}
		a, told, stop := telling(t, l, b)
		time.Sleep(time.Hour)
		stop()
		if m := manifestOf(t, b, "a"); len(m.Segments) != 1 || a.Behind() != 2 || !told.has("the archived content is not what was sealed") {
			t.Errorf("%d segments listed, %d behind: %s", len(m.Segments), a.Behind(), &told.text)
		}
	})
}

func TestNodesThatNameNoFolder(t *testing.T) {
	for _, node := range []string{"a/b", "..", ".a", "a b"} {
		o := small(crashdisk.New(1))
		o.Node = node
		l, err := fallbacklog.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: l, Bucket: directory.New(crashdisk.New(2), "archive")})
		if err == nil || !strings.Contains(err.Error(), "set `node` to letters") {
			t.Errorf("%q: %v", node, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestARepairedSegmentTakesNoPlace of an archived one that is gone.
func TestARepairedSegmentTakesNoPlace(t *testing.T) {
	d, to, _ := archived(t)
	if err := errors.Join(to.Remove("archive/a/00000002.seg"), d.FlipBit(segmentFile(2), fallbacklog.HeaderSize+60, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a, told, stop := telling(t, openLog(t, small(d)), directory.New(to, "archive"))
		time.Sleep(time.Hour) // what the log says of its loss is sealed by then, too
		stop()
		if names, err := to.List("archive/a"); err != nil || len(copies(names)) != 5 || a.Behind() != 3 || !told.has("has been repaired since") {
			t.Errorf("the archive holds %v, %v; %d behind: %s", names, err, a.Behind(), &told.text)
		}
	})
}

// TestAStrangeUnlistedSegment is not taken for the log's own.
func TestAStrangeUnlistedSegment(t *testing.T) {
	other, _, _ := archived(t)
	d, to, _ := archived(t)
	if err := errors.Join(to.Remove("archive/a/manifest.json"), to.WriteFile("archive/a/00000001.seg", content(t, other, segmentFile(1)))); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a, told, stop := telling(t, openLog(t, small(d)), directory.New(to, "archive"))
		time.Sleep(time.Hour)
		stop()
		if names, err := to.List("archive/a"); err != nil || len(copies(names)) != len(names)-1 || a.Behind() != 3 || !told.has("is another segment than log/00000001.seg") {
			t.Errorf("the archive holds %v, %v; %d behind: %s", names, err, a.Behind(), &told.text)
		}
	})
}
