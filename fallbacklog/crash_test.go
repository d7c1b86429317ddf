package fallbacklog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// crash is a disk as it was found after a crash, with what had been told before.
type crash struct {
	name string
	disk *crashdisk.Disk
	told *history
}

// crashes are the four kinds of crash now.
func crashes(d *crashdisk.Disk, h *history, name string) []crash {
	// What had been acknowledged before the crash must be there; what was begun by
	// the time of the crash may be.
	told := h.clone()
	taken := []crash{
		{name + ", nothing unsynced kept", d.Crash(0), told},
		{name + ", half of it kept", d.Crash(0.5), told},
		{name + ", all of it kept", d.Crash(1), told},
		{name + ", killed", d.Kill(), told},
	}
	told.learn(h.clone())
	return taken
}

// reopen opens what a crash left, checks it, appends to it, and opens and checks
// it once more after a power loss.
func (c crash) reopen() error {
	d, told := c.disk.Kill(), c.told.clone()
	var tip fallbacklog.Position // of the log before the power loss
	for range 2 {
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		err = told.check(l)
		if now := l.Tip(); err == nil && now.Short(tip) {
			err = fmt.Errorf("a crash has moved the tip of the log back from %v to %v", tip, now)
		}
		if err == nil {
			err = told.append(l, 2)
		}
		tip = l.Tip()
		after := d.Crash(0)
		if err = errors.Join(err, l.Close()); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		d = after
	}
	return nil
}

func small(d disk.Disk) fallbacklog.Options {
	return fallbacklog.Options{Dir: "log", Node: "a", Disk: d, SegmentBytes: fallbacklog.MinSegment}
}

// appendFrom has some goroutines append so much that segments are sealed.
func appendFrom(l *fallbacklog.Log, h *history, goroutines, each int) error {
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if err := h.append(l, 1+(g+i)%3); err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// underLoad takes crashes at every so many operations while goroutines append.
func underLoad(t *testing.T, unsynced bool) []crash {
	t.Helper()
	d := crashdisk.New(1)
	h := newHistory()
	h.size = 2000
	var mu sync.Mutex
	var found []crash
	taps := &tap{Disk: d, unsynced: unsynced}
	taps.told = func(op, path string) {
		if n := taps.ops.Load(); n%11 == 0 {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, crashes(d, h, fmt.Sprintf("at operation %d, %s %s", n, op, path))...)
		}
	}
	l, err := fallbacklog.Open(small(taps))
	if err != nil {
		t.Fatal(err)
	}
	if err := appendFrom(l, h, 6, 20); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return append(found, crashes(d, h, "after Close")...)
}

func TestWhatWasAcknowledgedUnderLoadSurvivesEveryCrash(t *testing.T) {
	t.Parallel()
	found := underLoad(t, false)
	if len(found) < 40 {
		t.Fatalf("only %d crashes were taken", len(found))
	}
	for _, c := range found {
		if err := c.reopen(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes", len(found))
}

// The canary: with the fsync taken out, the same check finds what was lost.
func TestWithoutTheFsyncTheCrashCheckFails(t *testing.T) {
	t.Parallel()
	lost, killed := 0, 0
	for _, c := range underLoad(t, true) {
		switch err := c.reopen(); {
		case err != nil && strings.Contains(err.Error(), "acknowledged"):
			lost++
		case err == nil && strings.Contains(c.name, "killed"):
			killed++
		}
	}
	if lost == 0 {
		t.Fatal("no crash lost an acknowledged record, though nothing had been synced: the check is blind")
	}
	t.Logf("%d power losses lost acknowledged records, %d kills alone did not", lost, killed)
}

// TestACrashAtEveryOperation takes crashes at each operation of a short life:
// start, appends, a seal with its index, appends, close.
func TestACrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	d := crashdisk.New(2)
	h := newHistory()
	var mu sync.Mutex // the index is written beside the appends
	var found []crash
	taps := &tap{Disk: d}
	taps.told = func(op, path string) {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, crashes(d, h, fmt.Sprintf("at operation %d, %s %s", taps.ops.Load(), op, path))...)
	}
	for range 2 {
		l, err := fallbacklog.Open(small(taps))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if err := h.append(l, 1+i%3); err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				if _, err := l.Seal(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range found {
		if err := c.reopen(); err != nil {
			t.Fatal(err)
		}
		if i%37 == 0 {
			crashAgain(t, c)
		}
	}
	t.Logf("%d crashes", len(found))
}

// crashAgain takes crashes at each operation of the recovery from a crash.
func crashAgain(t *testing.T, c crash) {
	t.Helper()
	var found []crash
	d := c.disk.Kill()
	taps := &tap{Disk: d}
	taps.told = func(op, path string) {
		found = append(found, crashes(d, c.told, fmt.Sprintf("%s; in recovery at %s %s", c.name, op, path))...)
	}
	l, err := fallbacklog.Open(small(taps))
	if err != nil {
		t.Fatal(err)
	}
	taps.told = nil
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		if err := c.reopen(); err != nil {
			t.Fatal(err)
		}
	}
}
