package fallbacklog_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// TestReadersFollowTheTail has readers wait at the tail while segments are sealed
// under them.
func TestReadersFollowTheTail(t *testing.T) {
	d := crashdisk.New(13)
	l := openLog(t, small(d))
	h := newHistory()
	h.size = 4000
	const n = 120
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := l.Reader(0)
			defer r.Close()
			var last fallbacklog.Position
			for i := range n {
				rec, err := r.Next(t.Context())
				if err != nil || rec.At <= last {
					t.Errorf("record %d: %v after %v, %v", i, rec, last, err)
					return
				}
				last = rec.At
			}
			if r.Position() != l.End() {
				t.Errorf("the reader is at %v, the end is %v", r.Position(), l.End())
			}
		})
	}
	for i := range n {
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	if got := l.End().Segment(); got < 5 {
		t.Fatalf("only %d segments: nothing was sealed under the readers", got)
	}
	if err := h.check(l); err != nil {
		t.Fatal(err)
	}
}

func TestNextEndsWithItsContextAndWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := fallbacklog.Open(small(crashdisk.New(14)))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		if err := h.append(l, 3); err != nil {
			t.Fatal(err)
		}
		r := l.Reader(0)
		defer r.Close()
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if rec, err := r.Next(ended); !errors.Is(err, context.Canceled) {
			t.Fatalf("with a context that has ended: %v, %v", rec, err)
		}
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := r.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if rec, err := r.Next(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("at the tail: %v, %v", rec, err)
		}
		// A segment is sealed by its age while the reader waits, and that alone
		// is nothing to read.
		got := make(chan error, 1)
		go func() {
			_, err := r.Next(t.Context())
			got <- err
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(l.Indexes()) == 0 {
			t.Fatal("a segment with records was not sealed by its age")
		}
		if len(got) > 0 {
			t.Fatalf("Next returned at the tail: %v", <-got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, fallbacklog.ErrClosed) {
			t.Fatalf("when the log was closed: %v", err)
		}
		if err := l.Append(t.Context(), h.record(9, 0)); !errors.Is(err, fallbacklog.ErrClosed) {
			t.Fatalf("append to a closed log: %v", err)
		}
		if err := l.Append(ended, h.record(9, 0)); !errors.Is(err, context.Canceled) {
			t.Fatalf("append with a context that has ended: %v", err)
		}
	})
}

// TestRecordsLargerThanAReadersChunk reads records of every size around it.
func TestRecordsLargerThanAReadersChunk(t *testing.T) {
	l := openLog(t, small(crashdisk.New(15)))
	h := newHistory()
	var sizes []int
	for _, around := range []int{fallbacklog.ReadChunk, 2 * fallbacklog.ReadChunk, fallbacklog.ReadChunk / 2} {
		for i := range 8 {
			sizes = append(sizes, min(around-300+i*80, fallbacklog.MaxRecord-100), 10)
		}
	}
	for i, size := range sizes {
		rec := h.record(2*i+1, 0)
		rec.Event.Reason = strings.Repeat("y", size)
		if err := l.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Read(rec.At); err != nil || len(got.Event.Reason) != size {
			t.Fatalf("read a record of %d bytes: %v", size, err)
		}
	}
	r := l.Reader(0)
	defer r.Close()
	for _, size := range sizes {
		rec, err := r.TryNext()
		if err != nil || len(rec.Event.Reason) != size {
			t.Fatalf("record of %d bytes: %v", size, err)
		}
	}
}

// Nothing that is not durable is read: not by readers, not by look-ups.
func TestNothingIsReadBeforeItIsDurable(t *testing.T) {
	g := newGate(crashdisk.New(16))
	l := openLog(t, small(g))
	h := newHistory()
	if err := h.append(l, 2); err != nil {
		t.Fatal(err)
	}
	g.close(true)
	answer := make(chan error, 1)
	n, recs := h.begin(2)
	go func() { answer <- l.Append(context.Background(), recs...) }()
	<-g.entered
	id, _ := idOf(h.record(n, 1))
	for range 3 {
		r := l.Reader(0)
		for range 2 {
			if _, err := r.TryNext(); err != nil {
				t.Fatal(err)
			}
		}
		if rec, err := r.TryNext(); !errors.Is(err, fallbacklog.ErrTail) {
			t.Fatalf("read %v, %v before it was durable", rec, err)
		}
		r.Close()
		if rows, err := l.Lookup(id); err != nil || len(rows) > 0 {
			t.Fatalf("found %v, %v before it was durable", rows, err)
		}
	}
	g.close(false)
	g.open <- nil
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if row, ok, err := l.Last(id); err != nil || !ok || row.At != recs[1].At {
		t.Fatalf("found %v, %v, %v after it was durable", row, ok, err)
	}
}

// A reader finds damage to the segment it reads, also while the log is in use.
func TestAReaderFindsDamageInUse(t *testing.T) {
	d := crashdisk.New(17)
	l := openLog(t, small(d))
	h := newHistory()
	for range 3 {
		if err := h.append(l, 2); err != nil {
			t.Fatal(err)
		}
	}
	at := h.appends[1].at[1]
	if err := d.FlipBit(active, int64(at.Offset())+20, 5); err != nil {
		t.Fatal(err)
	}
	r := l.Reader(0)
	defer r.Close()
	for range 3 {
		if _, err := r.TryNext(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		rec, err := r.TryNext()
		if corrupt, ok := errors.AsType[*fallbacklog.CorruptError](err); !ok || corrupt.Offset != int64(at.Offset()) || corrupt.Path != active {
			t.Fatalf("got %v, %v", rec, err)
		}
	}
}

// TestMoreReadersThanFilesAreHeld has a reader in each of more segments than are
// held open.
func TestMoreReadersThanFilesAreHeld(t *testing.T) {
	l := openLog(t, small(crashdisk.New(31)))
	h := newHistory()
	var readers []*fallbacklog.Reader
	for range fallbacklog.MaxFiles + 10 {
		at := l.End()
		for range 2 {
			if err := h.append(l, 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := l.Reader(at)
		defer r.Close()
		if _, err := r.TryNext(); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if err := h.check(l); err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		for range 2*(len(readers)-i) - 1 {
			if _, err := r.TryNext(); err != nil {
				t.Fatalf("reader %d: %v", i, err)
			}
		}
		if rec, err := r.TryNext(); !errors.Is(err, fallbacklog.ErrTail) {
			t.Fatalf("reader %d: %v, %v after the last record", i, rec, err)
		}
	}
}

// A reader whose disk fails once goes on where it was.
func TestAReaderGoesOnAfterAnError(t *testing.T) {
	d := crashdisk.New(32)
	l := openLog(t, small(d))
	h := newHistory()
	h.size = 50_000
	for range 12 {
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
	}
	r := l.Reader(0)
	defer r.Close()
	failed := 0
	for n := 0; n < 12; {
		d.FailAt(crashdisk.OpRead, 2, errIO, n%2 == 0)
		rec, err := r.TryNext()
		switch {
		case errors.Is(err, syscall.EIO):
			failed++
			continue
		case err != nil:
			t.Fatal(err)
		}
		if rec.At != h.appends[n].at[0] {
			t.Fatalf("record %d at %v, want %v", n, rec.At, h.appends[n].at[0])
		}
		n++
	}
	if failed == 0 {
		t.Fatal("no read failed")
	}
}

// TestWhatIsFoundCanBeRead looks records up from the moment when they appear.
func TestWhatIsFoundCanBeRead(t *testing.T) {
	l := openLog(t, small(crashdisk.New(33)))
	h := newHistory()
	const n = 1500
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range n {
				id, _ := idOf(h.record(i, 0))
				for found := false; !found; runtime.Gosched() {
					rows, err := l.Lookup(id)
					if err != nil {
						t.Error(err)
						return
					}
					for _, row := range rows {
						found = true
						if _, err := l.Read(row.At); err != nil {
							t.Errorf("append %d has the row %+v and reads as %v", i, row, err)
							return
						}
					}
				}
			}
		})
	}
	for range n {
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// interrupted is a disk whose files are read in two parts, with something between.
type interrupted struct {
	disk.Disk
	between func()
}

func (d *interrupted) OpenRead(path string) (disk.File, error) {
	f, err := d.Disk.OpenRead(path)
	if err != nil {
		return nil, err
	}
	return &interruptedFile{f, d}, nil
}

type interruptedFile struct {
	disk.File
	disk *interrupted
}

func (f *interruptedFile) ReadAt(p []byte, off int64) (int, error) {
	if len(p) <= fallbacklog.HeaderSize {
		return f.File.ReadAt(p, off)
	}
	const part = fallbacklog.HeaderSize + 600
	n, err := f.File.ReadAt(p[:part], off)
	if err != nil {
		return n, err
	}
	f.disk.between()
	m, err := f.File.ReadAt(p[part:], off+part)
	return n + m, err
}

// TestRecordsBesideTheOwner reads a log from outside while its owner writes
// between any two bytes that are read.
func TestRecordsBesideTheOwner(t *testing.T) {
	d := crashdisk.New(34)
	l := openLog(t, small(d))
	h := newHistory()
	beside := &interrupted{Disk: d, between: func() {
		for range 2 {
			if err := h.append(l, 3); err != nil {
				t.Fatal(err)
			}
		}
	}}
	for round := range 40 {
		if damage, err := verified(beside); err != nil || len(damage) > 0 {
			t.Fatalf("round %d: Verify found %q, %v", round, damage, err)
		}
		told, read := h.durable(), 0
		for rec, err := range fallbacklog.Records(beside, "log") {
			if err != nil {
				t.Fatalf("round %d: after %d records: %v", round, read, err)
			}
			if read++; rec.Event == nil && rec.Claim == nil {
				t.Fatalf("round %d: an empty record", round)
			}
		}
		if read < 3*told {
			t.Fatalf("round %d: read %d records of %d appends", round, read, told)
		}
		if round%10 == 9 {
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAReaderGivesClaimsAsTheLogHasThem: what queues hand on has to be what they would
// encode, and nothing that belongs to another record.
func TestAReaderGivesClaimsAsTheLogHasThem(t *testing.T) {
	l := openLog(t, small(crashdisk.New(14)))
	h := newHistory()
	if err := h.append(l, 200); err != nil {
		t.Fatal(err)
	}
	r := l.Reader(0)
	defer r.Close()
	claims := 0
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if rec.Kind == fallbacklog.Claimed {
			claims++
			want = string(fallbacklog.AppendClaim(nil, rec.Claim))
		}
		if r.Claim() != want {
			t.Fatalf("beside record %v the claim is %q, want %q", rec, r.Claim(), want)
		}
	}
	if claims == 0 {
		t.Fatal("no claim was read")
	}
}
