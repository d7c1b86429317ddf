package fallbacklog_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// gate is a disk whose files sync only when the test lets them, once it is shut.
type gate struct {
	disk.Disk
	mu      sync.Mutex
	shut    bool
	entered chan struct{} // a sync has begun and waits
	open    chan error    // lets one sync through, or fail
}

func newGate(d disk.Disk) *gate {
	return &gate{Disk: d, entered: make(chan struct{}), open: make(chan error)}
}

func (g *gate) close(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

func (g *gate) Create(path string) (disk.File, error) {
	f, err := g.Disk.Create(path)
	if err != nil || !strings.Contains(path, ".seg") {
		return f, err
	}
	return &gatedFile{f, g}, nil
}

type gatedFile struct {
	disk.File
	gate *gate
}

func (f *gatedFile) Sync() error {
	f.gate.mu.Lock()
	shut := f.gate.shut
	f.gate.mu.Unlock()
	if shut {
		f.gate.entered <- struct{}{}
		if err := <-f.gate.open; err != nil {
			return err
		}
	}
	return f.File.Sync()
}

// waiters are appends that have been called while a commit was under way.
func waiters(t *testing.T, l *fallbacklog.Log, h *history, n int) (answers chan error) {
	t.Helper()
	answers = make(chan error, n)
	for i := range n {
		go func() { answers <- h.append(l, 1+i%3) }()
	}
	records := 0
	for i := range n {
		records += 1 + i%3
	}
	for fallbacklog.Pending(l) < records {
		runtime.Gosched()
	}
	return answers
}

// TestAllWhoWaitShareOneSync holds a commit up until many wait for the next.
func TestAllWhoWaitShareOneSync(t *testing.T) {
	d := crashdisk.New(9)
	g := newGate(d)
	l := openLog(t, small(g))
	h := newHistory()
	g.close(true)
	first := make(chan error, 1)
	go func() { first <- h.append(l, 1) }()
	<-g.entered
	const n = 300
	answers := waiters(t, l, h, n)
	before := d.Ops()[crashdisk.OpSync]
	// A crash in the middle: no append is there in part.
	found := crashes(d, h, "before the first sync")
	g.open <- nil
	<-g.entered
	found = append(found, crashes(d, h, "before the second sync")...)
	g.close(false)
	g.open <- nil
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if got := d.Ops()[crashdisk.OpSync] - before; got != 2 {
		t.Fatalf("%d appends took %d syncs", n, got-1)
	}
	for _, c := range append(found, crashes(d, h, "after it")...) {
		if err := c.reopen(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAllWhoWaitGetTheSameAnswer lets the commit of many fail.
func TestAllWhoWaitGetTheSameAnswer(t *testing.T) {
	for _, failing := range []struct {
		name string
		sync error
		full bool
		want error
	}{
		{name: "sync", sync: errIO, want: fallbacklog.ErrPoisoned},
		{name: "sync full", sync: disk.ErrFull, want: fallbacklog.ErrPoisoned},
		{name: "full", full: true, want: disk.ErrFull},
	} {
		t.Run(failing.name, func(t *testing.T) {
			d := crashdisk.New(10)
			g := newGate(d)
			l := openLog(t, small(g))
			h := newHistory()
			h.size = 1500
			g.close(true)
			first := make(chan error, 1)
			go func() { first <- h.append(l, 1) }()
			<-g.entered
			const n = 100 // more than the reserved room takes
			answers := waiters(t, l, h, n)
			if failing.full {
				d.SetCapacity(0)
			}
			g.open <- nil
			if !failing.full {
				<-g.entered
				g.open <- failing.sync
			}
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := <-answers; !errors.Is(err, failing.want) || errors.Is(err, disk.ErrFull) && failing.want != disk.ErrFull {
					t.Errorf("got %v, want %v", err, failing.want)
				}
			}
			g.close(false)
			d.SetCapacity(1 << 40)
			if failing.full {
				if err := h.append(l, 3); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.check(l); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); failing.full != (err == nil) {
				t.Fatalf("Close said %v", err)
			}
			for _, c := range crashes(d, h, "after it") {
				if err := c.reopen(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestManyAppendersNeedFewSyncs counts the syncs of many at once, on a disk that
// takes a millisecond for each.
func TestManyAppendersNeedFewSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(11)
		slow := &tap{Disk: d, told: func(op, path string) {
			if op == "sync" {
				time.Sleep(time.Millisecond)
			}
		}}
		l, err := fallbacklog.Open(fallbacklog.Options{Dir: "log", Node: "a", Disk: slow})
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		before := d.Ops()[crashdisk.OpSync]
		if err := appendFrom(l, h, 64, 30); err != nil {
			t.Fatal(err)
		}
		// One for each round of all, but for the first, which finds one waiting.
		if got := d.Ops()[crashdisk.OpSync] - before; got > 62 {
			t.Fatalf("%d appends took %d syncs", 64*30, got)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAppendsAndReadersAndCloseAtOnce closes a log under load: every append is
// answered, every reader ends, and what was acknowledged is there.
func TestAppendsAndReadersAndCloseAtOnce(t *testing.T) {
	for round := range 8 {
		d := crashdisk.New(uint64(round))
		l := openLog(t, small(d))
		h := newHistory()
		h.size = 500
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					if err := h.append(l, 2); err != nil {
						if !errors.Is(err, fallbacklog.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			wg.Go(func() {
				r := l.Reader(0)
				defer r.Close()
				for {
					rec, err := r.Next(t.Context())
					if err == nil {
						id, _ := idOf(rec)
						_, err = l.Lookup(id)
					}
					if err != nil {
						if !errors.Is(err, fallbacklog.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		wg.Go(func() {
			for {
				if _, err := l.Seal(t.Context()); err != nil {
					if !errors.Is(err, fallbacklog.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
		for h.durable() < 25*round {
			if err := l.Wait(t.Context(), l.End()); err != nil {
				t.Fatal(err)
			}
		}
		var closing sync.WaitGroup
		for range 2 {
			closing.Go(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		closing.Wait()
		wg.Wait()
		if _, err := l.Lookup([16]byte{}); err != nil && !errors.Is(err, fallbacklog.ErrClosed) {
			t.Error(err)
		}
		for _, c := range crashes(d, h, fmt.Sprint("round ", round)) {
			if err := c.reopen(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
