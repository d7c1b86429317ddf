package postgres

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"manna/ledger"
)

// answering gives each connection a text once it has said something; without a text it
// is silent until the test ends.
func answering(t *testing.T, text string) (addr string) {
	return listening(t, func(conn net.Conn, over <-chan struct{}) {
		if text == "" {
			<-over
			return
		}
		io.ReadAtLeast(conn, make([]byte, 1024), 8)
		io.WriteString(conn, text)
	})
}

// lines answers, as servers of lines do, once a client has ended one.
func lines(t *testing.T, text string) (addr string) {
	return listening(t, func(conn net.Conn, _ <-chan struct{}) {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			io.WriteString(conn, text)
		}
	})
}

// listening has serve see to each connection until the test is over.
func listening(t *testing.T, serve func(conn net.Conn, over <-chan struct{})) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	t.Cleanup(func() { close(over); l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				serve(conn, over)
			})
		}
	})
	return l.Addr().String()
}

// TestServersOfLines: they would seem to hang.
func TestServersOfLines(t *testing.T) {
	for _, mode := range []string{"disable", "prefer", "require"} {
		for _, text := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "ERROR\r\n"} {
			addr := lines(t, text)
			_, err := Check(t.Context(), Options{DSN: "postgres://manna:s3cret@" + addr + "/manna?sslmode=" + mode, Node: "a", Timeout: time.Second})
			refusal(t, err, addr+"/manna: look at the server: ledger cannot be reached: what answers there is no PostgreSQL: correct host and port in ledger: {dsn}", "s3cret")
			if !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("%v: it may pass", err)
			}
		}
	}
}

// TestSilentServerHasItsWholeTime: the look at what listens there takes none of it.
func TestSilentServerHasItsWholeTime(t *testing.T) {
	const timeout = 500 * time.Millisecond
	began := time.Now()
	_, err := Check(t.Context(), Options{DSN: "postgres://manna@" + answering(t, "") + "/manna?sslmode=disable", Node: "a", Timeout: timeout})
	refusal(t, err, "it does not answer within 500ms")
	if took := time.Since(began); took < timeout+timeout/5 {
		t.Errorf("it took %v: the server had less than %v for the question", took, timeout)
	}
}

func TestNameThatIsNotFound(t *testing.T) {
	for want, why := range map[string]*net.DNSError{
		"its name is not known: correct host and port in ledger: {dsn}":           {Err: "no such host", Name: "db", IsNotFound: true},
		"its name cannot be looked up (i/o timeout): see this machine's resolver": {Err: "i/o timeout", Name: "db", IsTimeout: true},
		"its name cannot be looked up (server misbehaving): see this machine's":   {Err: "server misbehaving", Name: "db", IsTemporary: true},
	} {
		dial := func(context.Context, string, string) (net.Conn, error) { return nil, why }
		refusal(t, awayOf(dialled(t, dial), time.Second), want)
	}
}

// dialled is the driver's error where dialling fails so.
func dialled(t *testing.T, dial pgconn.DialFunc) error {
	t.Helper()
	config, err := pgconn.ParseConfig("postgres://manna@192.0.2.1/manna?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = dial
	_, err = pgconn.ConnectConfig(t.Context(), config)
	return err
}

// TestWhatIsNoPostgreSQL: Check says in one line what is there, and which key to
// correct; and so does a ledger that is to wait for it.
func TestWhatIsNoPostgreSQL(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	const web, memcached, mail = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "ERROR\r\n", "220 mail.example ESMTP\r\n"
	for name, c := range map[string]struct{ addr, mode, want, openWant string }{
		"nobody":              {nobody, "disable", "nothing listens there: start it", "nothing listens there: start it"},
		"silence":             {answering(t, ""), "disable", "it does not answer within 1s", "it does not answer within 1s"},
		"silence, preferred":  {answering(t, ""), "prefer", "it does not answer within 1s", "it does not answer within 1s"},
		"a web server":        {answering(t, web), "disable", "no PostgreSQL", "no PostgreSQL"},
		"memcached":           {answering(t, memcached), "disable", "no PostgreSQL", "no PostgreSQL"},
		"a mail server":       {answering(t, mail), "disable", "no PostgreSQL", "hangs up"},
		"one, with TLS":       {answering(t, web), "require", "no PostgreSQL", "it takes no TLS"},
		"no TLS":              {answering(t, "N"), "require", "sslmode=disable", "sslmode=disable"},
		"a strange handshake": {answering(t, "S"+mail), "require", "no PostgreSQL", "no PostgreSQL"},
		"a hang-up":           {answering(t, "N"), "disable", "hangs up", "hangs up"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{DSN: "postgres://manna:s3cret@" + c.addr + "/manna?sslmode=" + c.mode, Node: "a", Timeout: time.Second}
			began := time.Now()
			found, err := Check(t.Context(), opts)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			_, openErr := Open(t.Context(), opts)
			refusal(t, err, c.want, "s3cret")
			said := map[string]error{"look at the server": err}
			if !errors.Is(openErr, context.DeadlineExceeded) { // whose time is over is the caller's to say
				refusal(t, openErr, c.openWant, "s3cret")
				said["read the schema's version"] = openErr
			}
			for what, err := range said {
				for _, want := range []string{"PostgreSQL at " + c.addr + "/manna: " + what, "ledger: {dsn}"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v; want %q", err, want)
					}
				}
				if !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("%v: it may pass", err)
				}
			}
			if found != "" {
				t.Errorf("found %q", found)
			}
		})
	}
}
