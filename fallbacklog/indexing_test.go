package fallbacklog_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// noIndexes is a disk on which no index can be made while it is on.
type noIndexes struct {
	disk.Disk
	on atomic.Bool
}

func (d *noIndexes) Create(path string) (disk.File, error) {
	if d.on.Load() && strings.HasSuffix(path, ".idx.tmp") {
		return nil, errIO
	}
	return d.Disk.Create(path)
}

// TestWithoutIndexesTheLogGoesOn makes indexes impossible for a while: appends and
// look-ups go on, memory stays bounded, and later every index is there.
func TestWithoutIndexesTheLogGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &noIndexes{Disk: crashdisk.New(28)}
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		fallbacklog.SetMost(l, 3*fallbacklog.MinSegment)
		h := newHistory()
		h.size = 6000
		d.on.Store(true)
		full := 0
		for range 100 {
			switch err := h.append(l, 1); {
			case errors.Is(err, disk.ErrFull):
				full++
			case err != nil:
				t.Fatal(err)
			}
		}
		if full == 0 || full > 60 {
			t.Fatalf("%d of 100 appends were refused", full)
		}
		if got := l.End().Segment(); got > 5 || got < 3 {
			t.Fatalf("%d segments, of which none has its index", got)
		}
		if err := h.check(l); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.Seal(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Seal without indexes: %v", err)
		}
		d.on.Store(false)
		indexes, err := l.Seal(t.Context())
		if err != nil || len(indexes) != int(l.End().Segment())-1 && len(indexes) != int(l.End().Segment()) {
			t.Fatalf("%d indexes, %v, and the active segment is %d", len(indexes), err, l.End().Segment())
		}
		if err := h.append(l, 2); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// Close does not wait for an index that cannot be made: Open makes it.
func TestCloseWithoutIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &noIndexes{Disk: crashdisk.New(29)}
		d.on.Store(true)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		if err := h.append(l, 1); err != nil {
			t.Fatal(err)
		}
		sealing := make(chan error, 1)
		go func() {
			_, err := l.Seal(context.WithoutCancel(t.Context()))
			sealing <- err
		}()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-sealing; !errors.Is(err, fallbacklog.ErrClosed) {
			t.Fatalf("Seal of a log that was closed meanwhile: %v", err)
		}
		d.on.Store(false)
		if l, err = fallbacklog.Open(small(d)); err != nil {
			t.Fatal(err)
		}
		if len(l.Indexes()) != 1 {
			t.Fatalf("%d indexes", len(l.Indexes()))
		}
		if err := errors.Join(h.check(l), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestASealIsServedUnderLoad: those who append without end do not keep it waiting.
func TestASealIsServedUnderLoad(t *testing.T) {
	l := openLog(t, small(crashdisk.New(30)))
	h := newHistory()
	if err := h.append(l, 1); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := h.append(l, 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		before := l.End()
		indexes, err := l.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := indexes[len(indexes)-1].Segment(); got < before.Segment() && before.Offset() > fallbacklog.HeaderSize {
			t.Fatalf("what was appended up to %v is not in the indexes, which end with segment %d", before, got)
		}
		if err := l.Wait(t.Context(), l.End()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := h.check(l); err != nil {
		t.Fatal(err)
	}
}

// TestOldDamageIsFoundAfterOpen: what Open left unread is read in the background,
// and damage there ends the log.
func TestOldDamageIsFoundAfterOpen(t *testing.T) {
	d, _ := closed(t)
	if err := d.FlipBit(segmentFile(1), fallbacklog.HeaderSize+30, 1); err != nil {
		t.Fatal(err)
	}
	o := small(d)
	o.VerifyBytes = 1
	l, err := fallbacklog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	<-l.Failed()
	if err := l.Append(t.Context(), claimRecord("u")); !errors.Is(err, fallbacklog.ErrPoisoned) || !isCorrupt(err, segmentFile(1)) {
		t.Fatalf("append after damage was found: %v", err)
	}
	if err := l.Close(); !errors.Is(err, fallbacklog.ErrPoisoned) {
		t.Fatalf("Close said %v", err)
	}
}
