//go:build engines

package fallbacklog_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/buckettest"
	"manna/fallbacklog/bucket/s3"
	"manna/internal/disk"
)

// announcing tells after each manifest that was written.
type announcing struct {
	bucket.Bucket
	wrote chan error
}

func (b *announcing) tell(key string, err error) error {
	if strings.HasSuffix(key, "/manifest.json") || err != nil {
		select {
		case b.wrote <- err:
		default: // nobody waits
		}
	}
	return err
}

func (b *announcing) Put(ctx context.Context, key string, c bucket.Content) error {
	return b.tell(key, b.Bucket.Put(ctx, key, c))
}

func (b *announcing) Replace(ctx context.Context, key string, old bucket.Sum, c bucket.Content) error {
	return b.tell(key, b.Bucket.Replace(ctx, key, old, c))
}

// s3World is a log on the real disk and its archive on a real S3 server.
type s3World struct {
	t       *testing.T
	server  *buckettest.Server
	log     *fallbacklog.Log
	dir     string
	history *history
	bucket  *announcing
	direct  bucket.Bucket // without what stands between
}

// newS3World has 3 sealed segments of some megabytes. between gives the address that
// the archiver uses; nil is the server's.
func newS3World(t *testing.T, between func(s *buckettest.Server) string) *s3World {
	t.Helper()
	w := &s3World{t: t, server: buckettest.Start(t, "manna"), dir: t.TempDir(), history: newHistory()}
	w.history.size = 200_000
	w.log = openLog(t, fallbacklog.Options{Dir: w.dir, Node: "a", SegmentBytes: 32 << 20})
	for range 3 {
		w.seal(15)
	}
	addr := w.server.Addr
	if between != nil {
		addr = between(w.server)
	}
	w.bucket = &announcing{w.open(addr), make(chan error)}
	w.direct = w.open(w.server.Addr)
	return w
}

func (w *s3World) open(addr string) bucket.Bucket {
	w.t.Helper()
	b, err := s3.New(w.server.URL("manna/archive", addr), s3.Keys{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { b.Close() })
	return b
}

// seal appends some records and seals them.
func (w *s3World) seal(records int) {
	w.t.Helper()
	for range records {
		if err := w.history.append(w.log, 1); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.log.Seal(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// wait waits until the archiver has caught up, and gives the errors on the way.
func (w *s3World) wait(a *fallbacklog.Archiver) (errs []error) {
	w.t.Helper()
	late := time.After(time.Minute)
	for a.Behind() > 0 {
		select {
		case err := <-w.bucket.wrote:
			if err != nil {
				errs = append(errs, err)
			}
		case <-time.After(50 * time.Millisecond): // the count follows the manifest
		case <-late:
			w.t.Fatalf("%d segments behind after a minute: %v", a.Behind(), errs)
		}
	}
	return errs
}

// want checks the archive from another machine: as many segments, all indexes, all
// records, and a log that can be restored from nothing.
func (w *s3World) want(segments int) {
	w.t.Helper()
	a, err := fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: w.direct, Cache: w.t.TempDir()})
	if err != nil {
		w.t.Fatal(err)
	}
	x, err := a.Open(w.t.Context(), "a")
	if err != nil {
		w.t.Fatal(err)
	}
	indexes, err := x.Indexes(w.t.Context())
	if err != nil || len(indexes) != segments {
		w.t.Fatalf("%d indexes, %v, want %d", len(indexes), err, segments)
	}
	rows := allRows(w.t, indexes)
	if !slices.Equal(rows, allRows(w.t, w.log.Indexes())) {
		w.t.Fatal("other rows than in the log")
	}
	for _, row := range rows {
		if rec, err := x.Read(w.t.Context(), row.At); err != nil || rec.At != row.At {
			w.t.Fatalf("at %v: %v", row.At, err)
		}
	}
	var numbers []uint32
	for _, e := range x.Manifest().Segments {
		numbers = append(numbers, e.Number)
	}
	if err := errors.Join(x.Close(), a.Close()); err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	if _, err := fallbacklog.Restore(w.t.Context(), w.direct, "a", disk.OS{}, dir, numbers...); err != nil {
		w.t.Fatal(err)
	}
	back := openLog(w.t, fallbacklog.Options{Dir: dir, Node: "a", SegmentBytes: 32 << 20})
	if err := w.history.check(back); err != nil {
		w.t.Fatal(err)
	}
}

func TestArchiveOnS3(t *testing.T) {
	w := newS3World(t, nil)
	if err := w.direct.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, told, stop := telling(t, w.log, w.bucket)
	if errs := w.wait(a); len(errs) > 0 {
		t.Fatal(errs)
	}
	w.want(3)
	w.seal(2)
	w.wait(a)
	w.want(4)
	// Another one of the same name takes over, and this one says so.
	b, _, stopLater := telling(t, w.log, w.bucket)
	w.wait(b)
	w.seal(1)
	w.wait(b)
	for !told.has("another process archives as node") { // it was woken by the same segment
		select {
		case <-w.bucket.wrote:
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("it said %s", &told.text)
		}
	}
	stopLater()
	stop()
	w.want(5)
}

// TestUploadsThatAreCutOff: each of the first connections that carries an upload is
// reset in its middle.
func TestUploadsThatAreCutOff(t *testing.T) {
	var cuts atomic.Int32
	w := newS3World(t, func(s *buckettest.Server) string {
		return buckettest.NewProxy(t, s.Addr, func(sent int64) bool { return sent > 1<<20 && cuts.Add(1) <= 6 }).Addr
	})
	a, _, stop := telling(t, w.log, w.bucket)
	errs := w.wait(a)
	stop()
	if cuts.Load() < 6 || len(errs) == 0 {
		t.Errorf("%d were cut, %v", cuts.Load(), errs)
	}
	w.want(3)
}

// TestAServerThatIsIllForAWhile answers 500 and 503, more often than a request is
// repeated.
func TestAServerThatIsIllForAWhile(t *testing.T) {
	const bad = 8 // answers, and a request is made 5 times
	var asked atomic.Int32
	w := newS3World(t, func(s *buckettest.Server) string {
		to := &url.URL{Scheme: "http", Host: s.Addr}
		through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
		ill := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if n := asked.Add(1); n > 4 && n <= 4+bad {
				rw.WriteHeader([]int{http.StatusInternalServerError, http.StatusServiceUnavailable}[n%2])
				return
			}
			through.ServeHTTP(rw, r)
		}))
		t.Cleanup(ill.Close)
		return strings.TrimPrefix(ill.URL, "http://")
	})
	a, told, stop := telling(t, w.log, w.bucket)
	w.wait(a)
	stop()
	if asked.Load() <= 4+bad || !told.has("cannot archive; trying again") {
		t.Errorf("asked %d times; it said %s", asked.Load(), &told.text)
	}
	w.want(3)
}

func TestPermissionTakenAway(t *testing.T) {
	w := newS3World(t, nil)
	a, _, stop := telling(t, w.log, w.bucket)
	w.wait(a)
	w.server.Kill()
	w.server.Up("--readonly")
	w.seal(3)
	var err error
	for err == nil {
		select {
		case err = <-w.bucket.wrote:
		case <-time.After(time.Minute):
			t.Fatal("nothing failed")
		}
	}
	if !errors.Is(err, bucket.ErrDenied) || !bucket.Lasting(err) || a.Behind() != 1 {
		t.Errorf("%d behind: %v", a.Behind(), err)
	}
	if err := w.direct.Check(t.Context()); !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), "s3:PutObject") {
		t.Errorf("checked: %v", err)
	}
	w.server.Kill()
	w.server.Up()
	w.wait(a)
	stop()
	w.want(4)
}

// TestTheServerIsKilledInAnUpload, thrice, and comes back.
func TestTheServerIsKilledInAnUpload(t *testing.T) {
	kill := make(chan struct{})
	var kills atomic.Int32
	w := newS3World(t, func(s *buckettest.Server) string {
		return buckettest.NewProxy(t, s.Addr, func(sent int64) bool {
			if sent > 1<<20 && kills.Add(1) <= 3 {
				s.Kill()
				kill <- struct{}{}
			}
			return false
		}).Addr
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			<-kill
			w.server.Up()
		}
	}()
	a, _, stop := telling(t, w.log, w.bucket)
	w.wait(a)
	<-done
	stop()
	w.want(3)
	if kills.Load() < 3 {
		t.Errorf("killed %d times", kills.Load())
	}
}
