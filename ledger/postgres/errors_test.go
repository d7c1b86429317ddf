package postgres

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusal checks that err is one line with its remedy and no secret.
func refusal(t *testing.T, err error, remedy string, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it was taken")
	}
	t.Log(err)
	if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, remedy) {
		t.Errorf("%q is not one line with %q", s, remedy)
	}
	for _, secret := range secrets {
		if tells(err, secret) {
			t.Errorf("%q or what it wraps holds the password", err)
		}
	}
}

// tells reports whether err or anything it wraps has the secret in its text.
func tells(err error, secret string) bool {
	if err == nil {
		return false
	}
	if strings.Contains(err.Error(), secret) {
		return true
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(many.Unwrap(), func(err error) bool { return tells(err, secret) })
	}
	return tells(errors.Unwrap(err), secret)
}

func TestUnreadableDSN(t *testing.T) {
	const secret = "Tr0ub4dor"
	for _, dsn := range []string{
		"postgres://manna:" + secret + "%zz@host/db",
		"postgres://manna:" + secret + "@host:port/db",
		"mysql://manna:" + secret + "@host/db",
		"host=a port=x password=" + secret,
		"password='" + secret,
		secret,
	} {
		_, err := Open(t.Context(), Options{DSN: dsn, Node: "a", Later: true})
		refusal(t, err, "postgres://user:password@host", secret)
	}
	for _, opts := range []Options{{Node: "a"}, {DSN: "postgres://host/db"}} {
		if _, err := Open(t.Context(), opts); err == nil {
			t.Errorf("options %+v were taken", opts)
		}
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	opts := Options{DSN: "postgres://manna:s3cret@" + addr + "/manna?sslmode=disable", Node: "a", Timeout: time.Second}
	_, err = Open(t.Context(), opts)
	refusal(t, err, addr, "s3cret")
	if !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("error %v, want %v", err, ledger.ErrUnavailable)
	}
	opts.Later = true
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Ping(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("ping: %v, want %v", err, ledger.ErrUnavailable)
	}
}

// What the ledger itself refuses is no fault of PostgreSQL's.
func TestRefusalsOfTheLedgerAreWhole(t *testing.T) {
	l, err := Open(t.Context(), Options{DSN: "postgres://manna@127.0.0.1:1/manna?sslmode=disable", Node: "a", Timeout: 100 * time.Millisecond, Later: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, refusal := range []error{ledger.ErrNodeTaken, ledger.ErrLogShort, ledger.ErrFenced, ledger.ErrHeld, ledger.ErrLeaseChanged, ledger.ErrOverdrawn} {
		err := fmt.Errorf("node b: %w", refusal)
		if got := l.explain("join", err); got.Error() != err.Error() {
			t.Errorf("got %q, want %q", got, err)
		}
	}
}

// TestServerThatSaysNothing has one that takes connections and never answers.
func TestServerThatSaysNothing(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	began := time.Now()
	const timeout = 200 * time.Millisecond
	_, err = Open(t.Context(), Options{DSN: "postgres://manna@" + listener.Addr().String() + "/manna?sslmode=disable", Node: "a", Timeout: timeout})
	if !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("error %v, want %v", err, ledger.ErrUnavailable)
	}
	if took := time.Since(began); took > 10*batchFactor*timeout {
		t.Fatalf("it took %v", took)
	}
}

func TestCallsShareTheTryAtAServerThatSaysNothing(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const timeout = 300 * time.Millisecond
	l, err := Open(t.Context(), Options{DSN: "postgres://manna@" + listener.Addr().String() + "/manna?sslmode=disable", Node: "a", Timeout: timeout, Later: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := l.Ping(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("error %v, want %v", err, ledger.ErrUnavailable)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 3*timeout {
		t.Fatalf("with a timeout of %v four calls took %v together", timeout, took)
	}
}
