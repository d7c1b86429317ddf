package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// correct is the remedy for an address at which no ledger can be.
const correct = "correct host and port in ledger: {dsn}"

// worded is an error in words that name the remedy, in the place of the driver's.
type worded struct {
	text string
	err  error
}

func (e *worded) Error() string { return e.text }
func (e *worded) Unwrap() error { return e.err }

// awayOf finds words for an error of making a connection, and leaves any other as it
// is. within is the time that the server was given.
func awayOf(err error, within time.Duration) error {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); !ok {
		return err
	}
	say := func(format string, args ...any) error {
		return &worded{fmt.Sprintf(format, args...), err}
	}
	lookup, named := errors.AsType[*net.DNSError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, length := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	text := err.Error()
	switch {
	case named && lookup.IsNotFound:
		return say("its name is not known: %s", correct)
	case named:
		return say("its name cannot be looked up (%s): see this machine's resolver and the network, or %s", lookup.Err, correct)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("nothing listens there: start it, or %s", correct)
	case pgconn.Timeout(err):
		return silent(err, within)
	case untrusted:
		return say("this machine does not trust its certificate: name its authority, sslrootcert=…, or its right host in ledger: {dsn}")
	case strings.Contains(text, "refused TLS"):
		return say("it takes no TLS: switch that on there (ssl = on), or write sslmode=disable into ledger: {dsn}; where it is no PostgreSQL, %s", correct)
	case length, record, strings.Contains(text, "unknown message type"), strings.Contains(text, "invalid message length"):
		return say("%v", errStrange)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return say("what listens there hangs up: see that it is PostgreSQL and well, or %s", correct)
	}
	return err
}

// silent is a server that lets its time pass.
func silent(err error, within time.Duration) error {
	return &worded{fmt.Sprintf("it does not answer within %v: see whether it hangs, or %s", within, correct), err}
}
