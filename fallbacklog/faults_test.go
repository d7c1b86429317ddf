package fallbacklog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

var errIO = fmt.Errorf("injected: %w", syscall.EIO)

// life is a short life of a log: start, appends, a seal with its index, appends,
// close, start, append. It goes on past errors as its callers would, and notes
// what it was told.
func life(d disk.Disk, h *history) error {
	for range 2 {
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			return err
		}
		for i := range 5 {
			err := h.append(l, 1+i%3)
			if err == nil && i == 2 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				_, err = l.Seal(ctx)
				cancel()
			}
			if errors.Is(err, fallbacklog.ErrPoisoned) {
				return errors.Join(err, dead(l, h), l.Close())
			}
			if err != nil && !errors.Is(err, disk.ErrFull) {
				return errors.Join(fmt.Errorf("neither full nor poisoned: %w", err), l.Close())
			}
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			return err
		}
	}
	return nil
}

var errWrong = errors.New("wrong")

// dead checks a poisoned log: no append succeeds, and what is durable can be read.
func dead(l *fallbacklog.Log, h *history) error {
	select {
	case <-l.Failed():
	default:
		return fmt.Errorf("%w: poisoned, and Failed is open", errWrong)
	}
	for range 2 {
		if err := h.append(l, 1); !errors.Is(err, fallbacklog.ErrPoisoned) || errors.Is(err, disk.ErrFull) {
			return fmt.Errorf("%w: append to a poisoned log: %w", errWrong, err)
		}
	}
	if _, err := l.Seal(context.Background()); !errors.Is(err, fallbacklog.ErrPoisoned) {
		return fmt.Errorf("%w: seal of a poisoned log: %w", errWrong, err)
	}
	if err := h.check(l); err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	r := l.Reader(l.End())
	defer r.Close()
	if _, err := r.Next(context.Background()); !errors.Is(err, fallbacklog.ErrPoisoned) {
		return fmt.Errorf("%w: reader at the end of a poisoned log: %w", errWrong, err)
	}
	return nil
}

// TestAnErrorAtEveryOperation makes each operation of each kind fail in turn,
// with its effect and without it, as an I/O error and as a full disk: in the life
// of a new log, and of one that has to be recovered first. Of the crashes that follow,
// the one that keeps nothing is always taken, and one of the others by turns, which
// begin elsewhere in each run.
func TestAnErrorAtEveryOperation(t *testing.T) {
	fresh := crashdisk.New(6)
	// The name of the data directory itself is whoever's who made it.
	if err := fresh.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	dead, told := killed(t, 3)
	turn := rand.Int()
	t.Logf("turns begin at %d", turn%3)
	beginnings := map[string]struct {
		disk *crashdisk.Disk
		told *history
	}{"new": {fresh, newHistory()}, "killed": {dead, told}}
	for name, begin := range beginnings {
		counting := begin.disk.Kill()
		synctest.Test(t, func(t *testing.T) {
			if err := life(counting, begin.told.clone()); err != nil {
				t.Fatal(err)
			}
		})
		ops := counting.Ops()
		for _, op := range []crashdisk.Op{
			crashdisk.OpCreate, crashdisk.OpWrite, crashdisk.OpSync, crashdisk.OpAllocate, crashdisk.OpTruncate,
			crashdisk.OpRename, crashdisk.OpRemove, crashdisk.OpSyncDir, crashdisk.OpOpen, crashdisk.OpRead,
		} {
			t.Run(name+"/"+string(op), func(t *testing.T) {
				t.Parallel()
				step := 1
				if op == crashdisk.OpRead || op == crashdisk.OpOpen {
					step = 11
				}
				turn := turn
				for n := 1; n <= ops[op]; n += step {
					turn++ // so that an error is not always met by the same crash
					for _, injected := range []error{errIO, fmt.Errorf("injected: %w", disk.ErrFull)} {
						for _, applied := range []bool{false, true} {
							turn++
							var err error
							synctest.Test(t, func(*testing.T) {
								d := begin.disk.Kill()
								d.FailAt(op, n, injected, applied)
								err = survives(d, begin.told.clone(), op == crashdisk.OpAllocate && injected == errIO, turn)
							})
							if err != nil {
								t.Errorf("%s %d, applied %v, %v: %v", op, n, applied, injected, err)
							}
						}
					}
				}
			})
		}
	}
}

// survives lives a life on a disk that fails, and checks what every crash after it
// leaves that has its turn. fatal: the failure must not be passed over.
func survives(d *crashdisk.Disk, h *history, fatal bool, turn int) error {
	syncs := &syncOnce{}
	err := life(&tap{Disk: &failedSyncs{d, syncs}}, h)
	if errors.Is(err, errWrong) || err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, disk.ErrFull) && !strings.Contains(err.Error(), "injected") {
		return err
	}
	if fatal && err == nil {
		return errors.New("the failure was passed over")
	}
	if syncs.again != "" {
		return fmt.Errorf("%s was synced again after a failed sync", syncs.again)
	}
	left := crashes(d, h, "after it")
	return errors.Join(left[0].reopen(), left[1+turn%3].reopen())
}

// syncOnce notes a file that is synced after a sync of it has failed.
type syncOnce struct {
	mu    sync.Mutex
	again string
}

// failedSyncs watches the syncs of all files of a disk.
type failedSyncs struct {
	disk.Disk
	seen *syncOnce
}

func (d *failedSyncs) Create(path string) (disk.File, error) {
	f, err := d.Disk.Create(path)
	if err != nil {
		return nil, err
	}
	return &watchedFile{File: f, path: path, seen: d.seen}, nil
}

type watchedFile struct {
	disk.File
	path   string
	seen   *syncOnce
	failed bool
}

func (f *watchedFile) Sync() error {
	err := f.File.Sync()
	f.seen.mu.Lock()
	defer f.seen.mu.Unlock()
	if f.failed {
		f.seen.again = f.path
	}
	f.failed = f.failed || err != nil
	return err
}

// TestAFullDiskAtEveryPoint leaves a little more room each time, from none at all
// to enough for everything: whatever does not fit is refused, nothing of it is
// read later, and when there is room the log goes on.
func TestAFullDiskAtEveryPoint(t *testing.T) {
	t.Parallel()
	full, went := 0, 0
	for room := int64(0); room < 150<<10; room += 4096 - room%4096/2 + 512 {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New(uint64(room))
			h := newHistory()
			h.size = 3000
			l, err := fallbacklog.Open(small(d))
			if err != nil {
				t.Fatal(err)
			}
			d.SetCapacity(d.Used() + room)
			for i := range 30 {
				err := h.append(l, 1+i%2)
				if errors.Is(err, disk.ErrFull) {
					full++
				} else if err != nil {
					t.Fatalf("%d bytes of room: %v", room, err)
				}
				if i%10 == 9 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if _, err := l.Seal(ctx); err != nil && !errors.Is(err, disk.ErrFull) && !errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("%d bytes of room: %v", room, err)
					}
					cancel()
				}
			}
			if err := h.check(l); err != nil {
				t.Fatalf("%d bytes of room: %v", room, err)
			}
			stuck := crashes(d, h, "while it was full")
			d.SetCapacity(1 << 40)
			if err := h.append(l, 2); err != nil {
				t.Fatalf("%d bytes of room, and then enough: %v", room, err)
			}
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatalf("%d bytes of room, and then enough: %v", room, err)
			}
			if err := errors.Join(h.check(l), l.Close()); err != nil {
				t.Fatalf("%d bytes of room, and then enough: %v", room, err)
			}
			went++
			for _, c := range append(stuck[2:], crashes(d, h, "after it")[:2]...) {
				// Without room Open says so; with it everything is there.
				if l, err := fallbacklog.Open(small(c.disk.Kill())); err == nil {
					l.Close()
				} else if !errors.Is(err, disk.ErrFull) || !strings.Contains(err.Error(), "make room and start again") {
					t.Fatalf("%d bytes of room: %s: open without more room: %v", room, c.name, err)
				}
				c.disk.SetCapacity(1 << 40)
				if err := c.reopen(); err != nil {
					t.Fatalf("%d bytes of room: %v", room, err)
				}
			}
		})
	}
	if full == 0 || went == 0 {
		t.Fatalf("%d appends met a full disk in %d runs", full, went)
	}
}

// TestAShortWrite lets a write stop in the middle for want of room, as file
// systems do that do not overwrite in place.
func TestAShortWrite(t *testing.T) {
	t.Parallel()
	for bytes := 0; bytes < 200; bytes += 9 {
		synctest.Test(t, func(t *testing.T) { shortWrite(t, bytes) })
	}
}

func shortWrite(t *testing.T, bytes int) {
	d := crashdisk.New(7)
	h := newHistory()
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.append(l, 2); err != nil {
		t.Fatal(err)
	}
	// What the log writes behind a commit when nobody waits is not the write meant.
	synctest.Wait()
	d.ShortWriteAt(1, bytes, disk.ErrFull)
	if err := h.append(l, 2); !errors.Is(err, disk.ErrFull) {
		t.Fatalf("after %d bytes: %v", bytes, err)
	}
	found := crashes(d, h, "after the short write")
	if err := h.append(l, 1); err != nil {
		t.Fatal(err)
	}
	found = append(found, crashes(d, h, "after the next")...)
	if err := errors.Join(h.check(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		if err := c.reopen(); err != nil {
			t.Fatalf("after %d bytes: %v", bytes, err)
		}
	}
}

// TestARefusedBatchIsUndoneBeforeItsAnswer: a batch that was written and then
// refused could be read by the next process, had its caller been told too early.
func TestARefusedBatchIsUndoneBeforeItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(35)
		writes := make(chan chan struct{})
		var held atomic.Bool
		l, err := fallbacklog.Open(small(&tap{Disk: d, told: func(op, path string) {
			if op == "write" && held.Load() {
				done := make(chan struct{})
				writes <- done
				<-done
			}
		}}))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		held.Store(true)
		d.FailAt(crashdisk.OpWrite, 1, disk.ErrFull, true)
		answer := make(chan error, 1)
		go func() { answer <- h.append(l, 2) }()
		close(<-writes) // the batch
		undo := <-writes
		synctest.Wait()
		if len(answer) > 0 {
			t.Fatalf("the answer %v was given while the batch was still there", <-answer)
		}
		held.Store(false)
		close(undo)
		if err := <-answer; !errors.Is(err, disk.ErrFull) {
			t.Fatal(err)
		}
		if err := (crash{name: "after it", disk: d.Kill(), told: h.clone()}).reopen(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARecordTooLargeHarmsNoOther(t *testing.T) {
	t.Parallel()
	d := crashdisk.New(8)
	l := openLog(t, small(d))
	h := newHistory()
	large := func(size int) *fallbacklog.Record {
		rec := h.record(1, 0)
		rec.Event.Reason = strings.Repeat("x", size)
		return rec
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := h.append(l, 2); err != nil {
					t.Error(err)
				}
				if err := l.Append(t.Context(), large(10), large(fallbacklog.MaxRecord), large(10)); !errors.Is(err, fallbacklog.ErrTooLarge) {
					t.Errorf("a record over the bound: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if err := h.check(l); err != nil {
		t.Fatal(err)
	}
	// The largest that fits is read back, and many of them are too large together.
	most := large(fallbacklog.MaxRecord - 80)
	if err := l.Append(t.Context(), most); err != nil {
		t.Fatal(err)
	}
	rec, err := l.Read(most.At)
	if err != nil || rec.Event.Reason != most.Event.Reason {
		t.Fatalf("the largest record reads back as %v", err)
	}
	var many []*fallbacklog.Record
	for range fallbacklog.MaxBatch/fallbacklog.MaxRecord + 1 {
		many = append(many, large(fallbacklog.MaxRecord-80))
	}
	if err := l.Append(t.Context(), many...); !errors.Is(err, fallbacklog.ErrTooLarge) {
		t.Fatalf("more than a commit takes: %v", err)
	}
	if err := l.Append(t.Context(), &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: nil}); err == nil {
		t.Fatal("a record without its body was accepted")
	}
	if err := l.Append(t.Context(), &fallbacklog.Record{Kind: fallbacklog.Granted, Claim: &gift.Claim{}}); err == nil {
		t.Fatal("a record with another's body was accepted")
	}
}
