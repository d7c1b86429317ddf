package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"manna/ledger"
)

// Codes of PostgreSQL's errors.
const (
	deadlock        = "40P01"
	serialization   = "40001"
	badPassword     = "28P01"
	noAuthorization = "28000"
	noDatabase      = "3D000"
	noPrivilege     = "42501"
	tooMany         = "53300"
	readOnly        = "25006"
)

// own are the package ledger's own errors: what they say is whole.
var own = []error{ledger.ErrNotFound, ledger.ErrMoved, ledger.ErrNewer, ledger.ErrSlotTaken, ledger.ErrSlotHeld, ledger.ErrFenced,
	ledger.ErrRunExists, ledger.ErrCursor, ledger.ErrHeld, ledger.ErrLeaseChanged, ledger.ErrOverdrawn, ledger.ErrNodeTaken, ledger.ErrLogShort}

// explain says where and at what a call failed, and what to do about it where a
// person can do something.
func (l *Ledger) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, e := range own {
		if errors.Is(err, e) {
			return err
		}
	}
	user := l.pool.Config().ConnConfig.User
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case badPassword, noAuthorization:
			return fmt.Errorf("PostgreSQL at %s does not let %q in (%s): check user and password in the ledger's dsn, and pg_hba.conf", l.addr, user, refused.Message)
		case noDatabase:
			return fmt.Errorf("PostgreSQL at %s has no such database: create it (createdb), or name another in the ledger's dsn", l.addr)
		case noPrivilege, readOnly:
			remedy := remedyReadOnly
			if refused.Code == noPrivilege {
				remedy = l.rightsFor(what)
			}
			return fmt.Errorf("PostgreSQL at %s: %s: %w", l.addr, what, &worded{refused.Message + ": " + remedy, err})
		case tooMany:
			return fmt.Errorf("PostgreSQL at %s: %s: %s: raise max_connections, or lower pool_max_conns in the dsn (%w)", l.addr, what, refused.Message, ledger.ErrUnavailable)
		}
	}
	if unreachable(err) {
		return fmt.Errorf("PostgreSQL at %s: %s: %w: %w", l.addr, what, ledger.ErrUnavailable, oneLine(awayOf(err, l.opts.Timeout)))
	}
	return fmt.Errorf("PostgreSQL at %s: %s: %w", l.addr, what, oneLine(err))
}

// unreachable reports whether err is of the way to the server rather than of what
// was asked of it.
func unreachable(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		// Class 57P: the server is starting, stopping or was told to.
		return strings.HasPrefix(refused.Code, "57P") || strings.HasPrefix(refused.Code, "08")
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// line is an error whose text is one line.
type line struct{ error }

func (e line) Error() string {
	return strings.Join(strings.Fields(e.error.Error()), " ")
}

func (e line) Unwrap() error { return e.error }

func oneLine(err error) error { return line{err} }
