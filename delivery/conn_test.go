package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
)

// rawServer hands each connection to handle, with its number from 0, and joins
// them all when the test ends.
func rawServer(t *testing.T, handle func(n int, c net.Conn, r *bufio.Reader)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				handle(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest takes one whole request off the wire.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

// net/http repeats a request by itself where a kept connection dies under it
// and the request has an Idempotency-Key. One Grant must stay one call.
func TestNoSilentRepeat(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.Close() },
		"reset":  func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			url := rawServer(t, func(_ int, c net.Conn, r *bufio.Reader) {
				for readRequest(r) {
					// Every second request is read in full and never answered.
					if requests.Add(1)%2 == 0 {
						end(c)
						return
					}
					io.WriteString(c, okAnswer)
				}
			})
			h := newTestHTTP(t, HTTPOptions{URL: url, QueryURL: url})
			claim, order := testClaim(1)
			for i := range 6 {
				want := "granted"
				if i%2 == 1 {
					want = "unknown reset"
				}
				if got := kind(h.Grant(t.Context(), claim, order)); got != want {
					t.Errorf("grant %d: got %s, want %s", i, got, want)
				}
			}
			if n := requests.Load(); n != 6 {
				t.Errorf("6 grants made %d calls", n)
			}
			h.Query(t.Context(), order.ID)
			if got := describe(h.Query(t.Context(), order.ID)); got != "unanswered reset" {
				t.Errorf("query: got %s", got)
			}
			if n := requests.Load(); n != 8 {
				t.Errorf("2 queries made %d calls", n-6)
			}
		})
	}
}

// The partner closes each connection right after it answered, without saying
// so: the next call finds it dead before, while or after it writes. Whatever the
// moment, Deferred means that the partner never had the order.
func TestStaleConnections(t *testing.T) {
	var mu sync.Mutex
	applied := make(map[string]int)
	outcomes := make(map[gift.OrderID]gift.Outcome)
	t.Run("calls", func(t *testing.T) { // its end joins the server
		url := rawServer(t, func(_ int, c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			mu.Lock()
			applied[req.Header.Get("Idempotency-Key")]++
			mu.Unlock()
			io.WriteString(c, okAnswer)
		})
		h := newTestHTTP(t, HTTPOptions{URL: url})
		for i := range 500 {
			claim, order := testClaim(i)
			outcomes[order.ID] = h.Grant(t.Context(), claim, order)
		}
	})
	tally := judge(t, outcomes, func(id gift.OrderID) int { return applied[id.String()] })
	if tally["granted"] == 0 {
		t.Errorf("nothing was granted: %v", tally)
	}
}

// judge holds outcomes against the times that each order was applied in the end.
func judge(t *testing.T, outcomes map[gift.OrderID]gift.Outcome, applied func(gift.OrderID) int) (tally map[string]int) {
	t.Helper()
	tally = make(map[string]int)
	for id, o := range outcomes {
		tally[kind(o)]++
		n := applied(id)
		ok := n <= 1
		switch o.(type) {
		case gift.Granted:
			ok = n == 1
		case gift.Deferred, gift.Refused:
			ok = n == 0
		}
		if !ok {
			t.Errorf("applied %d times: %#v", n, o)
		}
	}
	t.Log(tally)
	return tally
}

// Calls are given up at every moment of their life. Deferred must be true, and
// after all calls have ended nothing of a deferred one comes in later.
func TestCancelAtAnyMoment(t *testing.T) {
	var p *partnertest.Partner
	var mu sync.Mutex
	outcomes := make(map[gift.OrderID]gift.Outcome)
	const seed = 7
	t.Run("calls", func(t *testing.T) { // its end joins the partner
		p = partnertest.Start(t, partnertest.Script{Latency: partnertest.Span{Max: 2 * partnertest.Millisecond}})
		h := partnerHTTP(t, p, HTTPOptions{MaxInFlight: 8})
		var workers sync.WaitGroup
		for w := range 8 {
			workers.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(w)))
				for i := range 100 {
					claim, order := testClaim(w*1000 + i)
					moment := time.Duration(random.IntN(3000)) * time.Microsecond
					ctx, cancel := context.WithTimeout(t.Context(), moment)
					if i%2 == 0 {
						cancel()
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(moment, cancel)
					}
					o := h.Grant(ctx, claim, order)
					cancel()
					mu.Lock()
					outcomes[order.ID] = o
					mu.Unlock()
				}
			})
		}
		workers.Wait()
	})
	tally := judge(t, outcomes, p.Books().Count)
	if tally["unknown cancelled"] == 0 || tally["granted"] == 0 {
		t.Errorf("the moments were not spread: %v", tally)
	}
}

// Nothing of the request can have arrived: every such end is Deferred.
func TestNeverWritten(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + closed.Addr().String()
	closed.Close()
	silent := strings.Replace(rawServer(t, func(_ int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }), "http", "https", 1)
	plain := strings.Replace(rawServer(t, func(_ int, c net.Conn, _ *bufio.Reader) { io.WriteString(c, okAnswer) }), "http", "https", 1)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()

	claim, order := testClaim(1)
	for name, url := range map[string]string{
		"connection refused":     refusing,
		"no such host":           "http://partner.invalid",
		"silent at handshake":    silent,
		"no TLS there":           plain,
		"certificate of nobody":  untrusted.URL,
		"address out of reason":  "http://127.0.0.1:99999",
		"refused before the TLS": strings.Replace(refusing, "http", "https", 1),
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHTTP(t, HTTPOptions{URL: url, QueryURL: url, Timeout: 500 * time.Millisecond})
			if got := kind(h.Grant(t.Context(), claim, order)); got != "deferred unreachable" {
				t.Errorf("got %s", got)
			}
			if got := describe(h.Query(t.Context(), order.ID)); got != "unanswered unreachable" {
				t.Errorf("query: got %s", got)
			}
		})
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := kind(newTestHTTP(t, HTTPOptions{URL: refusing}).Grant(gone, claim, order)); got != "deferred cancelled" {
		t.Errorf("given up before it began: got %s", got)
	}
	soon, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if got := kind(newTestHTTP(t, HTTPOptions{URL: silent, Timeout: 500 * time.Millisecond}).Grant(soon, claim, order)); got != "deferred cancelled" {
		t.Errorf("given up at the handshake: got %s", got)
	}
}

// What a partner may do once it has the request.
func TestHostileAnswers(t *testing.T) {
	endless := func(w io.Writer, text string) {
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		answer func(w io.Writer)
		want   string
	}{
		"nothing":           {func(io.Writer) {}, "unknown reset"},
		"half a status":     {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 2") }, "unknown unreadable"},
		"no HTTP":           {func(w io.Writer) { io.WriteString(w, "SSH-2.0-OpenSSH\r\n\r\n") }, "unknown unreadable"},
		"endless status":    {func(w io.Writer) { endless(w, "HTTP") }, "unknown unreadable"},
		"endless header":    {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\n"); endless(w, "X-Bomb: y\r\n") }, "unknown unreadable"},
		"endless 1xx":       {func(w io.Writer) { endless(w, "HTTP/1.1 103 Early Hints\r\n\r\n") }, "unknown unreadable"},
		"endless body":      {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n"); endless(w, "{} ") }, "unknown unreadable"},
		"endless refusal":   {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 400 No\r\n\r\n"); endless(w, "no ") }, "refused http_400"},
		"body cut short":    {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}") }, "unknown reset"},
		"refusal cut short": {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\n{}") }, "unknown reset"},
		"busy cut short":    {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 429 No\r\nContent-Length: 9\r\n\r\n{}") }, "deferred busy"},
		"bad chunks":        {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") }, "unknown unreadable"},
		"bad length":        {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n{}") }, "unknown unreadable"},
		"switching":         {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\n\r\n") }, "unknown unexpected_status"},
		"status 000":        {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 000 ?\r\nContent-Length: 0\r\n\r\n") }, "unknown unexpected_status"},
		"status 999":        {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n") }, "unknown unexpected_status"},
		"gzip unasked": {func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b")
		}, "unknown unreadable"},
		"a whole answer": {func(w io.Writer) { io.WriteString(w, okAnswer) }, "granted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := rawServer(t, func(_ int, w net.Conn, r *bufio.Reader) {
				if readRequest(r) {
					c.answer(w)
				}
			})
			h := newTestHTTP(t, HTTPOptions{URL: url})
			claim, order := testClaim(1)
			if got := h.Grant(t.Context(), claim, order); kind(got) != c.want {
				t.Errorf("got %#v, want %s", got, c.want)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(partnertest.New(partnertest.Script{}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	h := newTestHTTP(t, HTTPOptions{URL: server.URL + "/grant", TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}})
	for i := range 3 {
		claim, order := testClaim(i)
		if got := kind(h.Grant(t.Context(), claim, order)); got != "granted" {
			t.Errorf("got %s", got)
		}
	}
	server.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	claim, order := testClaim(9)
	if got := kind(h.Grant(t.Context(), claim, order)); got != "unknown reset" {
		t.Errorf("cut after writing: got %s", got)
	}
}

func TestCountedConn(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	defer ours.Close()
	c := &countedConn{Conn: ours}
	go io.CopyN(io.Discard, theirs, 5)
	if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	// Nobody reads on: a write under way counts in full until it has failed.
	failed := make(chan error)
	go func() {
		_, err := c.Write([]byte("world!"))
		failed <- err
	}()
	for c.count() != 11 {
		time.Sleep(time.Millisecond) // the write is on its way to block
	}
	ours.Close()
	if err := <-failed; err == nil {
		t.Error("a write on a closed pipe went through")
	}
	if n := c.seal(); n != 5 {
		t.Errorf("got %d bytes sent, want 5", n)
	}
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a sealed connection wrote: %v", err)
	}
}

// A connection that is not counted, or a call that was moved to a second one,
// never passes for unwritten.
func TestLineErrsOnTheSafeSide(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	uncounted := line{}
	uncounted.take(gotConn(a))
	if !uncounted.drop() {
		t.Error("a connection without a count passed for unwritten")
	}
	first, second := &countedConn{Conn: a}, &countedConn{Conn: b}
	moved := line{}
	moved.take(gotConn(first))
	first.sent = 1
	moved.take(gotConn(second))
	if !moved.drop() {
		t.Error("bytes on the first connection were forgotten")
	}
	kept := line{}
	used := &countedConn{Conn: a, sent: 1000}
	kept.take(gotConn(used))
	if kept.drop() {
		t.Error("an earlier call's bytes were counted")
	}
	if got := fmt.Sprint(used.sealed); got != "true" {
		t.Error("the connection was not sealed")
	}
}

func gotConn(c net.Conn) httptrace.GotConnInfo { return httptrace.GotConnInfo{Conn: c} }
