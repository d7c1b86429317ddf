package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/buckettest"
	"manna/fallbacklog/bucket/cache"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bucket with ten objects of 1,000 bytes, and what is fetched of it.
type world struct {
	bucket.Bucket
	t    *testing.T
	disk *crashdisk.Disk // the cache's
	gets atomic.Int32
	fail atomic.Int32 // so many reads to come break off
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Bucket: directory.New(crashdisk.New(1), "archive"), t: t, disk: crashdisk.New(2)}
	for i := range 10 {
		if err := w.Put(t.Context(), key(i), bucket.Bytes(object(i))); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func key(i int) string    { return fmt.Sprintf("a/%d", i) }
func object(i int) []byte { return buckettest.Random(uint64(i), 1000) }

var errCut = errors.New("cut off")

func (w *world) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	w.gets.Add(1)
	r, err := w.Bucket.Get(ctx, key, offset, length)
	if err == nil && w.fail.Add(-1) >= 0 {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r, 500), broken{}), r}, nil
	}
	return r, err
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errCut }

func (w *world) open(most int64) *cache.Cache {
	w.t.Helper()
	c, err := cache.Open(cache.Options{Bucket: w, Dir: "cache", Disk: w.disk, Bytes: most})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// file takes a copy and checks it.
func (w *world) file(c *cache.Cache, i int) *cache.File {
	w.t.Helper()
	f, err := c.File(w.t.Context(), key(i), 1000, bucket.SumOf(object(i)))
	if err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, 1000)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, object(i)) {
		w.t.Fatalf("copy %d: %v", i, err)
	}
	return f
}

// fetched counts what has been fetched since the last call.
func (w *world) fetched() int32 { return w.gets.Swap(0) }

func (w *world) names() []string {
	w.t.Helper()
	names, err := w.disk.List("cache")
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "lock" })
}

func TestTheLongestUnusedGoesFirst(t *testing.T) {
	w := newWorld(t)
	c := w.open(3500)
	for _, i := range []int{0, 1, 2, 0, 3} {
		w.file(c, i).Close()
	}
	if got := w.fetched(); got != 4 || len(w.names()) != 3 {
		t.Fatalf("%d fetched, %v kept", got, w.names())
	}
	w.file(c, 0).Close()
	w.file(c, 2).Close()
	if got := w.fetched(); got != 0 {
		t.Errorf("%d of those that were used last were fetched again", got)
	}
	w.file(c, 1).Close()
	if got := w.fetched(); got != 1 {
		t.Errorf("%d fetched, want the one that had gone", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsInUseStays(t *testing.T) {
	w := newWorld(t)
	c := w.open(2000)
	one, two := w.file(c, 1), w.file(c, 2)
	if f, err := c.File(t.Context(), key(3), 1000, bucket.SumOf(object(3))); !errors.Is(err, cache.ErrInUse) {
		t.Fatalf("a third of two: %v, %v", f, err)
	}
	again := w.file(c, 1)
	for range 2 { // closing twice lets go once
		one.Close()
	}
	if _, err := c.File(t.Context(), key(3), 1000, bucket.SumOf(object(3))); !errors.Is(err, cache.ErrInUse) {
		t.Fatalf("while one is used still: %v", err)
	}
	again.Close()
	w.file(c, 3).Close()
	two.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheNextProcessFindsTheCopies(t *testing.T) {
	w := newWorld(t)
	c := w.open(0)
	for i := range 4 {
		w.file(c, i).Close()
	}
	if _, err := cache.Open(cache.Options{Bucket: w, Dir: "cache", Disk: w.disk}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	w.fetched()
	// One is damaged, one is cut, and one was being fetched.
	sum := func(i int) string { return "cache/" + bucket.SumOf(object(i)).String() }
	if err := errors.Join(w.disk.FlipBit(sum(1), 70, 1), w.disk.WriteFile(sum(2), object(2)[:900]), w.disk.WriteFile(sum(7)+".tmp", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	c = w.open(0)
	for i := range 4 {
		w.file(c, i).Close()
	}
	if got := w.fetched(); got != 2 || len(w.names()) != 4 {
		t.Errorf("%d fetched, want the damaged two; %v kept", got, w.names())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// A smaller one keeps what fits.
	c = w.open(2500)
	if len(w.names()) != 2 {
		t.Errorf("%v kept", w.names())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneFetchForMany(t *testing.T) {
	w := newWorld(t)
	c := w.open(5000)
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for i := range 100 {
				n := (g*7 + i) % 4
				f, err := c.File(t.Context(), key(n), 1000, bucket.SumOf(object(n)))
				if err != nil {
					t.Error(err)
					return
				}
				b := make([]byte, 1000)
				if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, object(n)) {
					t.Error(n, err)
				}
				f.Close()
			}
		})
	}
	wg.Wait()
	if got := w.fetched(); got != 4 {
		t.Errorf("%d fetched, want 4", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFetchesAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.open(0)
		w.fail.Store(5)
		w.file(c, 1).Close()
		if got := w.fetched(); got != 6 {
			t.Errorf("fetched %d times", got)
		}
		w.fail.Store(1000)
		if _, err := c.File(t.Context(), key(2), 1000, bucket.SumOf(object(2))); !errors.Is(err, errCut) || w.fetched() != 6 {
			t.Errorf("a bucket that always breaks off: %v", err)
		}
		w.fail.Store(0)
		if len(w.names()) != 1 {
			t.Errorf("%v kept", w.names())
		}
		w.file(c, 2).Close()
		w.fetched()
		// What is not there is not asked for again.
		if _, err := c.File(t.Context(), "a/none", 1000, bucket.SumOf(nil)); !errors.Is(err, bucket.ErrNotFound) || w.fetched() != 1 {
			t.Errorf("nothing: %v", err)
		}
		// Neither is anything when nobody waits any more.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.File(ctx, key(3), 1000, bucket.SumOf(object(3))); !errors.Is(err, context.Canceled) || w.fetched() > 1 {
			t.Errorf("for nobody: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDamageInTheBucketIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.open(0)
		for _, size := range []int64{1000, 900, 1100} {
			if _, err := c.File(t.Context(), key(1), size, bucket.SumOf(object(2))); err == nil || !strings.Contains(err.Error(), "a/1 in file://archive is damaged") {
				t.Errorf("another content of %d bytes: %v", size, err)
			}
		}
		if len(w.names()) != 0 {
			t.Errorf("%v kept", w.names())
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
