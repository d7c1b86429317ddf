package s3_test

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/buckettest"
	"manna/fallbacklog/bucket/s3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, address string) *s3.Bucket {
	t.Helper()
	b, err := s3.New(address, s3.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestConformance on a server that does what S3 does, and on one that keeps no
// checksums.
func TestConformance(t *testing.T) {
	for name, lacks := range map[string]func(f *fake){
		"everything":   func(f *fake) {},
		"no checksums": func(f *fake) { f.noChecksums = true },
	} {
		t.Run(name, func(t *testing.T) {
			buckettest.Run(t, func(t *testing.T) bucket.Bucket {
				f := newFake(t)
				lacks(f)
				return open(t, f.url())
			})
		})
	}
}

// TestWithoutConditions: a server that has none is compared with before it is written
// to.
func TestWithoutConditions(t *testing.T) {
	f := newFake(t)
	f.noConditions = true
	b := open(t, f.url())
	one, two, three := bucket.Bytes([]byte("one")), bucket.Bytes([]byte("two")), bucket.Bytes([]byte("three"))
	if err := b.Put(t.Context(), "a/b", one); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "a/b", two); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("put over another: %v", err)
	}
	if err := b.Replace(t.Context(), "a/b", three.Sum, two); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("replaced another: %v", err)
	}
	if err := b.Replace(t.Context(), "a/b", one.Sum, two); err != nil {
		t.Error(err)
	}
	buckettest.Want(t, b, "a/b", []byte("two"))
}

// TestWhatTheServerKeepsIsLookedAt: by its checksum, or by reading it.
func TestWhatTheServerKeepsIsLookedAt(t *testing.T) {
	for _, noChecksums := range []bool{false, true} {
		f := newFake(t)
		f.rots, f.noChecksums = true, noChecksums
		b := open(t, f.url())
		err := b.Put(t.Context(), "a/b", bucket.Bytes(buckettest.Random(1, 5000)))
		if !errors.Is(err, bucket.ErrConflict) || !strings.Contains(err.Error(), "has another one") {
			t.Errorf("without checksums %v: %v", noChecksums, err)
		}
	}
}

// TestPassingFailuresAreRepeated, and lasting ones are not.
func TestPassingFailuresAreRepeated(t *testing.T) {
	f := newFake(t)
	b := open(t, f.url())
	f.set(func(f *fake) { f.failing = 3 })
	if err := b.Put(t.Context(), "a/b", bucket.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	f.set(func(f *fake) { f.failing = 1000 })
	if _, err := b.Stat(t.Context(), "a/b"); err == nil || bucket.Lasting(err) {
		t.Errorf("a server that is ill: %v", err)
	}
	f.set(func(f *fake) {
		f.failing, f.refuse, f.refuseStatus, f.asked = 0, "AccessDenied", http.StatusForbidden, nil
	})
	if _, err := b.Stat(t.Context(), "a/b"); !errors.Is(err, bucket.ErrDenied) || len(f.asked) != 1 {
		t.Errorf("denied after %v: %v", f.asked, err)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		status     int
		code, want string
		is         error
	}{
		{http.StatusNotFound, "NoSuchBucket", `make the bucket "fake"`, bucket.ErrNoBucket},
		{http.StatusForbidden, "AccessDenied", "allow s3:ListBucket, s3:GetObject and s3:PutObject", bucket.ErrDenied},
		{http.StatusForbidden, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID", bucket.ErrCredentials},
		{http.StatusForbidden, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY", bucket.ErrCredentials},
		{http.StatusBadRequest, "InvalidToken", "AWS_SESSION_TOKEN", bucket.ErrCredentials},
		{http.StatusForbidden, "RequestTimeTooSkewed", "clock", nil},
		{http.StatusMovedPermanently, "PermanentRedirect", "region", nil},
	} {
		f := newFake(t)
		f.refuse, f.refuseStatus = c.code, c.status
		err := open(t, f.url()).Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "s3://fake/pre/fix at "+f.addr) || c.is != nil && !(errors.Is(err, c.is) && bucket.Lasting(err)) {
			t.Errorf("%s: %v", c.code, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	err = open(t, "s3://fake?endpoint=http://"+l.Addr().String()).Check(t.Context())
	if !errors.Is(err, bucket.ErrUnreachable) || bucket.Lasting(err) || !strings.Contains(err.Error(), "nobody listens at "+l.Addr().String()) {
		t.Errorf("nobody listens: %v", err)
	}
	f := newFake(t)
	if err := open(t, "s3://fake?endpoint=https://"+f.addr).Check(t.Context()); !errors.Is(err, bucket.ErrUnreachable) || !strings.Contains(err.Error(), "endpoint=http://"+f.addr) {
		t.Errorf("http to an https client: %v", err)
	}
}

// TestCheckNeedsNoRemoval: a bucket that lets nobody remove is a good archive.
func TestCheckNeedsNoRemoval(t *testing.T) {
	f := newFake(t)
	locked := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			f.say(rw, http.StatusForbidden, "AccessDenied")
			return
		}
		f.ServeHTTP(rw, r)
	}))
	defer locked.Close()
	b := open(t, "s3://fake?endpoint="+locked.URL)
	for range 2 {
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range b.List(t.Context(), "") {
		t.Errorf("it lists %+v, %v", info, err)
	}
	if len(f.objects) != 1 {
		t.Errorf("the probes have left %d objects", len(f.objects))
	}
	f.set(func(f *fake) { f.asked = nil })
	if err := open(t, f.url()).Check(t.Context()); err != nil || !slices.Contains(f.asked, "DELETE pre/fix/.probe") {
		t.Errorf("asked for %v, %v", f.asked, err)
	}
}

// TestCheckReadsWhatItPut, and not something else.
func TestCheckReadsWhatItPut(t *testing.T) {
	f := newFake(t)
	f.rots = true
	err := open(t, f.url()).Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot read the object pre/fix/.probe: ") || !strings.Contains(err.Error(), "another content") {
		t.Errorf("%v", err)
	}
}

// TestCheckOfWhatIsNoS3: whatever listens there is named, with the remedy, in time.
func TestCheckOfWhatIsNoS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	page := func(status int, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(status)
			io.WriteString(rw, text)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0) // it hears that nobody trusts it
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	for name, c := range map[string]struct{ endpoint, want string }{
		"a refusal":           {page(http.StatusBadRequest, "bad"), "is no S3"},
		"no such page":        {page(http.StatusNotFound, "404 page not found"), "is no S3"},
		"a page":              {page(http.StatusOK, "<html><p>Hello</html>"), "is no S3"},
		"nothing":             {page(http.StatusOK, ""), "is no S3"},
		"a strange ailment":   {page(http.StatusBadGateway, "bad gateway"), "see the server's log"},
		"a mail server":       {"http://" + listen(t, "220 mail.example ESMTP\r\n", false), "is no S3"},
		"one that hangs up":   {"http://" + listen(t, "", false), "hangs up"},
		"a silent one":        {"http://" + listen(t, "", true), "does not answer in time"},
		"another's TLS":       {stranger.URL, "does not trust the certificate"},
		"no TLS":              {"https://" + listen(t, "220 mail.example ESMTP\r\n", false), "is no S3"},
		"a silent one, https": {"https://" + listen(t, "", true), "does not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			err := open(t, "s3://fake/pre/fix?endpoint="+c.endpoint).Check(t.Context())
			t.Log(err)
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it took %v", took)
			}
			_, at, _ := strings.Cut(c.endpoint, "://")
			if err == nil || bucket.Lasting(err) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v; want one line, and that it may pass", err)
			}
			for _, want := range []string{c.want, "s3://fake/pre/fix at " + at + ": cannot list: "} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v; want %q", err, want)
				}
			}
		})
	}
}

// listen answers each connection with a text, if any, and then hangs up or is silent
// until the test ends.
func listen(t *testing.T, text string, silent bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	over := make(chan struct{})
	t.Cleanup(func() { close(over); l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if silent {
					<-over
					return
				}
				conn.Read(make([]byte, 4096))
				io.WriteString(conn, text)
			})
		}
	})
	return l.Addr().String()
}

// TestCheckSaysWhatItTried, where the server itself does not know more.
func TestCheckSaysWhatItTried(t *testing.T) {
	f := newFake(t)
	for method, tried := range map[string]string{http.MethodPut: "put", http.MethodDelete: "remove"} {
		ill := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == method {
				f.say(rw, http.StatusInternalServerError, "InternalError")
				return
			}
			f.ServeHTTP(rw, r)
		}))
		defer ill.Close()
		err := open(t, "s3://fake/pre/fix?endpoint="+ill.URL).Check(t.Context())
		t.Log(err)
		want := "s3://fake/pre/fix at " + strings.TrimPrefix(ill.URL, "http://") + ": cannot " + tried + " the object pre/fix/.probe: see the server's log"
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
