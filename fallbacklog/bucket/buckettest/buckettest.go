// Package buckettest is the suite that every engine of a bucket passes, and what
// else tests of buckets need.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"manna/fallbacklog/bucket"
)

// Run holds an engine to the contract. open gives a bucket that is empty, and closes
// it when its test ends.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b bucket.Bucket)
	}{
		{"Check", check},
		{"Read", read},
		{"Missing", missing},
		{"PutTwice", putTwice},
		{"Replace", replace},
		{"WrongSum", wrongSum},
		{"BrokenContent", brokenContent},
		{"OneOfManyPuts", oneOfManyPuts},
		{"OneOfManyReplacements", oneOfManyReplacements},
		{"Whole", whole},
		{"List", list},
		{"BadKeys", badKeys},
		{"EndedContext", endedContext},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Random makes a content that compresses to nothing, the same for the same seed.
func Random(seed uint64, size int) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(b)
	return b
}

// Want fails the test where an object is not this content.
func Want(t *testing.T, b bucket.Bucket, key string, want []byte) {
	t.Helper()
	got, err := bucket.ReadAll(t.Context(), b, key, int64(len(want))+1)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes that begin with %.20q, want %d that begin with %.20q", key, len(got), got, len(want), want)
	}
}

// WantNothing fails the test where a key has an object.
func WantNothing(t *testing.T, b bucket.Bucket, key string) {
	t.Helper()
	if info, err := b.Stat(t.Context(), key); !errors.Is(err, bucket.ErrNotFound) {
		t.Fatalf("%s has %+v, %v", key, info, err)
	}
}

func check(t *testing.T, b bucket.Bucket) {
	for range 2 {
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range b.List(t.Context(), "") {
		t.Fatalf("the probe has left %+v, %v", info, err)
	}
}

func read(t *testing.T, b bucket.Bucket) {
	for i, size := range []int{0, 1, 4096, 20<<20 + 7} {
		key := fmt.Sprintf("a/%d", i)
		c := Random(uint64(i), size)
		if err := b.Put(t.Context(), key, bucket.Bytes(c)); err != nil {
			t.Fatal(err)
		}
		Want(t, b, key, c)
		info, err := b.Stat(t.Context(), key)
		if err != nil || info.Key != key || info.Size != int64(size) || info.Changed.IsZero() {
			t.Fatalf("%s is %+v, %v", key, info, err)
		}
		for _, part := range []struct{ offset, length int64 }{{0, 1}, {3, 5}, {0, 1 << 40}, {3, -1}, {5, 0}, {int64(size), 4}, {int64(size) + 9, 4}, {int64(size) + 9, -1}, {int64(size) - 1, 9}} {
			if part.offset < 0 {
				continue
			}
			from, to := min(part.offset, int64(size)), int64(size)
			if part.length >= 0 {
				to = min(from+part.length, to)
			}
			r, err := b.Get(t.Context(), key, part.offset, part.length)
			if err != nil {
				t.Fatalf("%d bytes from %d of %d: %v", part.length, part.offset, size, err)
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, c[from:to]) {
				t.Fatalf("%d bytes from %d of %d: %d bytes, %v, want %d", part.length, part.offset, size, len(got), err, to-from)
			}
		}
	}
}

func missing(t *testing.T, b bucket.Bucket) {
	if err := b.Put(t.Context(), "a/b", bucket.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "a/c", "a/b/c"} {
		WantNothing(t, b, key)
		for _, length := range []int64{-1, 0, 5} {
			if r, err := b.Get(t.Context(), key, 0, length); !errors.Is(err, bucket.ErrNotFound) {
				t.Errorf("get %s: %v, %v", key, r, err)
			}
		}
	}
	for _, folder := range []string{"c/", "a/c/"} {
		for info, err := range b.List(t.Context(), folder) {
			t.Errorf("%s has %+v, %v", folder, info, err)
		}
	}
}

func putTwice(t *testing.T, b bucket.Bucket) {
	first, other := Random(1, 9000), Random(2, 9000)
	for range 2 {
		if err := b.Put(t.Context(), "a/b", bucket.Bytes(first)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][]byte{other, other[:10], nil} {
		if err := b.Put(t.Context(), "a/b", bucket.Bytes(c)); !errors.Is(err, bucket.ErrConflict) {
			t.Fatalf("another content: %v", err)
		}
	}
	Want(t, b, "a/b", first)
}

func replace(t *testing.T, b bucket.Bucket) {
	one, two, three := bucket.Bytes([]byte("one")), bucket.Bytes([]byte("two")), bucket.Bytes([]byte("three"))
	if err := b.Replace(t.Context(), "a/b", one.Sum, two); !errors.Is(err, bucket.ErrConflict) {
		t.Fatalf("nothing replaced: %v", err)
	}
	if err := b.Put(t.Context(), "a/b", one); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Replace(t.Context(), "a/b", one.Sum, two); err != nil {
			t.Fatal(err)
		}
		Want(t, b, "a/b", []byte("two"))
	}
	if err := b.Replace(t.Context(), "a/b", one.Sum, three); !errors.Is(err, bucket.ErrConflict) {
		t.Fatalf("something else replaced: %v", err)
	}
	Want(t, b, "a/b", []byte("two"))
}

// wrongSum stores what is not what it is said to be: as if it had changed on its way.
func wrongSum(t *testing.T, b bucket.Bucket) {
	c := bucket.Bytes(Random(3, 70000))
	c.Sum[5] ^= 1
	if err := b.Put(t.Context(), "a/b", c); err == nil || errors.Is(err, bucket.ErrConflict) {
		t.Fatalf("a wrong sum: %v", err)
	}
	WantNothing(t, b, "a/b")
	old := bucket.Bytes([]byte("old"))
	if err := b.Put(t.Context(), "a/b", old); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), "a/b", old.Sum, c); err == nil {
		t.Fatal("a wrong sum replaced")
	}
	Want(t, b, "a/b", []byte("old"))
}

// breaking fails from an offset on.
type breaking struct {
	io.ReaderAt
	at int64
}

var errBroken = errors.New("broken")

func (r breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		return 0, errBroken
	}
	return r.ReaderAt.ReadAt(p, off)
}

func brokenContent(t *testing.T, b bucket.Bucket) {
	c := bucket.Bytes(Random(4, 3<<20))
	whole := c.ReaderAt
	c.ReaderAt = breaking{whole, 2 << 20}
	if err := b.Put(t.Context(), "a/b", c); err == nil {
		t.Fatal("a content that cannot be read was stored")
	}
	WantNothing(t, b, "a/b")
	c.ReaderAt = whole
	if err := b.Put(t.Context(), "a/b", c); err != nil {
		t.Fatal(err)
	}
}

// persist repeats what fails because another writes there.
func persist(do func() error) error {
	for {
		err := do()
		if err == nil || errors.Is(err, bucket.ErrConflict) {
			return err
		}
	}
}

func oneOfManyPuts(t *testing.T, b bucket.Bucket) {
	const many = 8
	for round := range 5 {
		key := fmt.Sprintf("a/%d", round)
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				errs[i] = b.Put(t.Context(), key, bucket.Bytes(Random(uint64(100*round+i), 100_000)))
			})
		}
		wg.Wait()
		winner := oneOf(t, errs)
		Want(t, b, key, Random(uint64(100*round+winner), 100_000))
	}
}

func oneOfManyReplacements(t *testing.T, b bucket.Bucket) {
	const many = 8
	old := bucket.Bytes([]byte("old"))
	if err := b.Put(t.Context(), "a/b", old); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				errs[i] = persist(func() error {
					return b.Replace(t.Context(), "a/b", old.Sum, bucket.Bytes(fmt.Appendf(nil, "%d of %d", i, round)))
				})
			})
		}
		wg.Wait()
		won := fmt.Appendf(nil, "%d of %d", oneOf(t, errs), round)
		Want(t, b, "a/b", won)
		old = bucket.Bytes(won)
	}
}

// oneOf gives the one that did not fail; the others have to be conflicts.
func oneOf(t *testing.T, errs []error) int {
	t.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("%d and %d have both been stored", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, bucket.ErrConflict):
			t.Fatal(err)
		}
	}
	if winner < 0 {
		t.Fatalf("none was stored: %v", errs)
	}
	return winner
}

// whole reads an object while it is replaced: it is one of its contents each time.
func whole(t *testing.T, b bucket.Bucket) {
	contents := [][]byte{Random(6, 200_000), Random(7, 300_000)}
	if err := b.Put(t.Context(), "a/b", bucket.Bytes(contents[0])); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for i := range 10 {
			if err := b.Replace(t.Context(), "a/b", bucket.SumOf(contents[i%2]), bucket.Bytes(contents[1-i%2])); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		got, err := bucket.ReadAll(t.Context(), b, "a/b", 1<<20)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func list(t *testing.T, b bucket.Bucket) {
	const many = 1010 // more than a page of S3
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for g := range errs {
		wg.Go(func() {
			for i := g; i < many && errs[g] == nil; i += len(errs) {
				errs[g] = b.Put(t.Context(), fmt.Sprintf("many/%04d", i), bucket.Bytes([]byte("x")))
			}
		})
	}
	wg.Wait()
	for _, key := range []string{"top", "many/deep/est/x", "many/deep.txt", "more/y"} {
		errs = append(errs, b.Put(t.Context(), key, bucket.Bytes([]byte(key))))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	found := func(folder string) []string {
		keys := make(map[string]bool)
		for info, err := range b.List(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			if keys[info.Key] {
				t.Fatalf("%s is listed twice", info.Key)
			}
			if dir := strings.HasSuffix(info.Key, "/"); dir != (info.Size == 0) {
				t.Fatalf("%+v in a list", info)
			}
			keys[info.Key] = true
		}
		return slices.Sorted(maps.Keys(keys))
	}
	if got, want := found(""), []string{"many/", "more/", "top"}; !slices.Equal(got, want) {
		t.Errorf("all is %q, want %q", got, want)
	}
	if got, want := found("many/deep/"), []string{"many/deep/est/"}; !slices.Equal(got, want) {
		t.Errorf("a folder has %q, want %q", got, want)
	}
	if got := found("many/"); len(got) != many+2 || got[0] != "many/0000" || got[many-1] != fmt.Sprintf("many/%04d", many-1) {
		t.Errorf("the large folder has %d keys from %s on", len(got), got[0])
	}
	for range b.List(t.Context(), "many/") {
		break // lets go of what it holds
	}
}

func badKeys(t *testing.T, b bucket.Bucket) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".probe", "a/.lock", "a.tmp", "a b", "ä", "a\x00", "a\\b", strings.Repeat("a", 201), strings.Repeat("a/", 600) + "a"} {
		_, get := b.Get(t.Context(), key, 0, -1)
		_, stat := b.Stat(t.Context(), key)
		c := bucket.Bytes([]byte("x"))
		for name, err := range map[string]error{"get": get, "stat": stat, "put": b.Put(t.Context(), key, c), "replace": b.Replace(t.Context(), key, c.Sum, c)} {
			if err == nil || !strings.Contains(err.Error(), "is no key") {
				t.Errorf("%s %.20q: %v", name, key, err)
			}
		}
	}
	for _, folder := range []string{"a", "/", "../", "a//"} {
		for info, err := range b.List(t.Context(), folder) {
			if err == nil {
				t.Errorf("list %q: %+v", folder, info)
			}
		}
	}
}

func endedContext(t *testing.T, b bucket.Bucket) {
	c := bucket.Bytes([]byte("x"))
	if err := b.Put(t.Context(), "a/b", c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, stat := b.Stat(ctx, "a/b")
	r, get := b.Get(ctx, "a/b", 0, -1)
	if get == nil {
		_, get = io.ReadAll(r)
		r.Close()
	}
	var listed error
	for _, err := range b.List(ctx, "a/") {
		listed = err
	}
	for name, err := range map[string]error{"stat": stat, "get": get, "list": listed, "put": b.Put(ctx, "a/c", c), "replace": b.Replace(ctx, "a/b", c.Sum, bucket.Bytes([]byte("y")))} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	Want(t, b, "a/b", []byte("x"))
	WantNothing(t, b, "a/c")
}
