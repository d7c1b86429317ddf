package rocketmq_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"manna/queue/rocketmq"
)

// listen answers each connection on a port of its own, until the test ends.
func listen(t *testing.T, answer func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer(conn)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// freeAddr is an address at which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func optionsFor(log *record, addrs ...string) rocketmq.Options {
	return rocketmq.Options{NameServers: addrs, Group: "manna", Node: "a", Logger: slog.New(log)}
}

// TestServersThatAreNone: what speaks another protocol is refused by Open and by
// Check, at once and by its address.
func TestServersThatAreNone(t *testing.T) {
	for name, text := range map[string]string{
		"a web server":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"a mail server":  "220 mail.example ESMTP\r\n",
		"zeros":          strings.Repeat("\x00", 64),
		"a huge frame":   "\x7f\xff\xff\xff\x00\x00\x00\x10",
		"a false header": "\x00\x00\x00\x08\x00\x00\x00\x04text",
	} {
		addr := listen(t, func(conn net.Conn) {
			io.ReadAtLeast(conn, make([]byte, 8), 8)
			io.WriteString(conn, text)
		})
		_, openErr := rocketmq.Open(t.Context(), optionsFor(&record{}, addr))
		_, checkErr := rocketmq.Check(t.Context(), optionsFor(&record{}, addr))
		for _, err := range []error{openErr, checkErr} {
			if err == nil || errors.Is(err, rocketmq.ErrAway) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "nameservers") {
				t.Errorf("%s: %v; want an error that names %s and the key, not one that says wait", name, err, addr)
			}
		}
	}
}

// TestServersThatAreAway: Check calls it an error, Open a warning; what is fed
// meanwhile fails, and Close ends everything.
func TestServersThatAreAway(t *testing.T) {
	nobody := freeAddr(t)
	hangup := listen(t, func(net.Conn) {})
	var log record
	found, err := rocketmq.Check(t.Context(), optionsFor(&log, nobody, hangup), "midas")
	if !errors.Is(err, rocketmq.ErrAway) || !strings.Contains(err.Error(), nobody) || !strings.Contains(err.Error(), hangup) || len(found.Brokers)+len(found.Away) > 0 {
		t.Errorf("check: %+v, %v; want one that names both", found, err)
	}
	q, err := rocketmq.Open(t.Context(), optionsFor(&log, nobody, hangup))
	if err != nil {
		t.Fatal(err)
	}
	log.await(t, 1, "WARN RocketMQ is away", nobody)
	lane, err := q.Lane(t.Context(), "midas")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Status(t.Context(), "midas"); !errors.Is(err, rocketmq.ErrAway) {
		t.Errorf("status: %v, want ErrAway: no watermark is better than a false one", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	if m, err := lane.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("received %v, %v", m, err)
	}
	cancel()
	// Whether its places can be written does not matter: it has none.
	if err := q.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestTheClientIsHeard: what the client says and what it panics of goes to the
// queue's logger.
func TestTheClientIsHeard(t *testing.T) {
	var log record
	q, err := rocketmq.Open(t.Context(), optionsFor(&log, listen(t, func(net.Conn) {})))
	if err != nil {
		t.Fatal(err)
	}
	rlog.Error("the broker is odd", map[string]any{"broker": "b-1"})
	rlog.Warning("a queue moves", nil)
	primitive.WithRecover(func() { panic("a nil map") })
	log.await(t, 1, "WARN rocketmq client: the broker is odd", "broker=b-1")
	log.await(t, 1, "DEBUG rocketmq client: a queue moves")
	log.await(t, 1, "ERROR", "panic=a nil map", "stack=")
	if err := q.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	good := rocketmq.Options{NameServers: []string{"127.0.0.1:1"}, Group: "manna", Node: "a"}
	for want, change := range map[string]func(*rocketmq.Options){
		"nameservers: [host:9876]": func(o *rocketmq.Options) { o.NameServers = nil },
		"write host:port":          func(o *rocketmq.Options) { o.NameServers = []string{"127.0.0.1"} },
		"letters, digits":          func(o *rocketmq.Options) { o.Group = "man-na" },
		"node":                     func(o *rocketmq.Options) { o.Node = "" },
		"above zero":               func(o *rocketmq.Options) { o.Queues = -1 },
		"a minute at least":        func(o *rocketmq.Options) { o.MaxDelay = time.Second },
	} {
		opts := good
		change(&opts)
		if _, err := rocketmq.Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
