package fallbacklog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// archiving runs an archiver in the bubble until stop is called.
func archiving(t *testing.T, l *fallbacklog.Log, d disk.Disk) (a *fallbacklog.Archiver, stop func()) {
	t.Helper()
	a, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: l, Bucket: directory.New(d, "archive")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// wantArchived checks that the archive is a log that holds what segments 1 to n
// of the original do, byte for byte.
func wantArchived(t *testing.T, from, to *crashdisk.Disk, n int) {
	t.Helper()
	var want []string
	for i := 1; i <= n; i++ {
		want = append(want, fmt.Sprintf("%08d.idx", i), fmt.Sprintf("%08d.seg", i))
	}
	got, err := to.List("archive/a")
	if err != nil || !slices.Equal(copies(got), want) {
		t.Fatalf("the archive holds %v, %v, want %v", got, err, want)
	}
	for _, name := range want {
		if string(content(t, to, "archive/a/"+name)) != string(content(t, from, "log/"+name)) {
			t.Fatalf("%s is not in the archive as it is in the log", name)
		}
	}
	if sound, err := fallbacklog.Verify(to, "archive/a", fallbacklog.Reached{}, func(v fallbacklog.Verdict) error {
		if len(v.Damage) > 0 {
			return fmt.Errorf("damage: %q", v.Damage)
		}
		return nil
	}); err != nil || !sound {
		t.Fatalf("the archive is sound: %v, %v", sound, err)
	}
}

// copies leaves the manifest and the lock out of the names in an archive.
func copies(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == "manifest.json" || name == ".lock" })
}

func TestSegmentsAreArchivedAsTheyAreSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := closed(t)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		to := crashdisk.New(22)
		a, stop := archiving(t, l, to)
		synctest.Wait()
		wantArchived(t, d, to, 3)
		for i := range 3 {
			if err := h.append(l, 2); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			wantArchived(t, d, to.Crash(0), 4+i)
			if a.Behind() != 0 {
				t.Fatalf("%d segments behind", a.Behind())
			}
		}
		stop()
		// The next one finds what is there: it writes a manifest, and copies nothing again.
		before := to.Ops()
		a, stop = archiving(t, l, to)
		synctest.Wait()
		if after := to.Ops(); after[crashdisk.OpWrite]-before[crashdisk.OpWrite] != 1 || a.Behind() != 0 {
			t.Fatalf("%d segments behind, and %d writes", a.Behind(), after[crashdisk.OpWrite]-before[crashdisk.OpWrite])
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		stop()
		// The archive opens as a log.
		o := small(to)
		o.Dir = "archive/a"
		l, err = fallbacklog.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestACrashAtEveryOperationOfTheArchiver loses power at each of its operations:
// whatever has its name in the archive is whole, and the next run goes on.
func TestACrashAtEveryOperationOfTheArchiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := crashdisk.New(23)
		var found []crash
		_, stop := archiving(t, l, &tap{Disk: to, told: func(op, path string) {
			found = append(found, crashes(to, newHistory(), op+" "+path)...)
		}})
		synctest.Wait()
		stop()
		if len(found) < 100 {
			t.Fatalf("only %d crashes were taken", len(found))
		}
		for _, c := range found {
			names, err := c.disk.List("archive/a")
			if err != nil {
				names = nil // the directory is not durable yet
			}
			for _, name := range copies(names) {
				if !strings.HasSuffix(name, ".tmp") && string(content(t, c.disk, "archive/a/"+name)) != string(content(t, d, "log/"+name)) {
					t.Fatalf("%s: %s is in the archive and is not whole", c.name, name)
				}
			}
			_, stop := archiving(t, l, c.disk)
			synctest.Wait()
			stop()
			wantArchived(t, d, c.disk.Crash(0), 3)
		}
	})
}

// TestTheArchiverTriesAgain lets each operation at the archive fail once.
func TestTheArchiverTriesAgain(t *testing.T) {
	t.Parallel()
	whole, _ := closed(t)
	for _, op := range []crashdisk.Op{
		crashdisk.OpCreate, crashdisk.OpWrite, crashdisk.OpSync, crashdisk.OpRead, crashdisk.OpRename, crashdisk.OpSyncDir, crashdisk.OpOpen, crashdisk.OpMkdir,
	} {
		for n := range 4 {
			for _, injected := range []error{errIO, disk.ErrFull} {
				synctest.Test(t, func(t *testing.T) {
					d := whole.Kill()
					l, err := fallbacklog.Open(small(d))
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					to := crashdisk.New(24)
					to.FailAt(op, n+1, injected, n%2 == 0)
					_, stop := archiving(t, l, to)
					time.Sleep(time.Minute)
					synctest.Wait()
					wantArchived(t, d, to.Kill(), 3) // without the faults that did not strike
					stop()
				})
			}
		}
	}
}

// TestDamageIsNotArchived damages a segment, and an index, in the log.
func TestDamageIsNotArchived(t *testing.T) {
	for _, path := range []string{segmentFile(2), indexFile(2)} {
		synctest.Test(t, func(t *testing.T) {
			d, _ := closed(t)
			l, err := fallbacklog.Open(small(d))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := d.FlipBit(path, fallbacklog.HeaderSize+40, 2); err != nil {
				t.Fatal(err)
			}
			to := crashdisk.New(25)
			a, stop := archiving(t, l, to)
			time.Sleep(time.Hour)
			synctest.Wait()
			if names, err := to.List("archive/a"); err != nil || slices.Contains(names, "00000002.seg") || !slices.Contains(names, "00000001.seg") || a.Behind() != 2 {
				t.Fatalf("the archive holds %v, %v; %d behind", names, err, a.Behind())
			}
			stop()
		})
	}
}

// rotting is a disk that writes another bit than it was given, once.
type rotting struct {
	disk.Disk
	rotten atomic.Bool
}

func (d *rotting) Create(path string) (disk.File, error) {
	f, err := d.Disk.Create(path)
	return &rottingFile{f, d}, err
}

type rottingFile struct {
	disk.File
	disk *rotting
}

func (f *rottingFile) WriteAt(p []byte, off int64) (int, error) {
	if !f.disk.rotten.Swap(true) {
		p = slices.Clone(p)
		p[len(p)/2] ^= 4
	}
	return f.File.WriteAt(p, off)
}

// TestACopyIsReadBack lets the archive's disk write something else.
func TestACopyIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := crashdisk.New(39)
		_, stop := archiving(t, l, &rotting{Disk: to})
		synctest.Wait()
		if names, err := to.List("archive/a"); err != nil || len(copies(names)) > 0 {
			t.Fatalf("the archive holds %v, %v after a copy that is not like its original", names, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantArchived(t, d, to, 3)
		stop()
	})
}

// TestTheArchiveKeepsWhatItHas: it is better than a repaired segment, and another
// node's or another log's is not written over.
func TestTheArchiveKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		sound := d.Kill()
		to := crashdisk.New(26)
		if err := errors.Join(to.MkdirAll("archive/a"), to.WriteFile("archive/a/00000002.seg", content(t, sound, segmentFile(2)))); err != nil {
			t.Fatal(err)
		}
		if err := d.FlipBit(segmentFile(2), fallbacklog.HeaderSize+fallbacklog.BatchFrame+12, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil {
			t.Fatal(err)
		}
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a, stop := archiving(t, l, to)
		synctest.Wait()
		if a.Behind() != 0 || string(content(t, to, "archive/a/00000002.seg")) != string(content(t, sound, segmentFile(2))) {
			t.Fatalf("%d behind, or the sound copy was replaced", a.Behind())
		}
		stop()
		// Another log's segment.
		other, _ := closed(t)
		strange := content(t, other, segmentFile(2))
		if err := to.WriteFile("archive/a/00000002.seg", strange); err != nil {
			t.Fatal(err)
		}
		a, stop = archiving(t, l, to)
		time.Sleep(time.Hour)
		synctest.Wait()
		if a.Behind() != 3 || string(content(t, to, "archive/a/00000002.seg")) != string(strange) {
			t.Fatalf("%d behind, or another's segment was replaced", a.Behind())
		}
		stop()
	})
}

func TestTheArchiverCountsWhatItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := crashdisk.New(27)
		to.FailAt(crashdisk.OpSync, 4, errIO, false)
		registry := prometheus.NewRegistry()
		a, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: l, Bucket: directory.New(to, "archive"), Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		if got := metric(t, registry, "manna_archive_behind_segments"); got != 2 {
			t.Errorf("%v segments behind, want 2", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for name, want := range map[string]float64{"manna_archive_segments_total": 3, "manna_archive_failures_total": 1, "manna_archive_behind_segments": 0} {
			if got := metric(t, registry, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if families, err := registry.Gather(); err != nil || len(families) > 0 {
			t.Errorf("metrics are left: %v, %v", families, err)
		}
	})
}

func metric(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
