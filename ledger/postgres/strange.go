package postgres

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errStrange is what talks at the ledger's address and is no PostgreSQL.
var errStrange = errors.New("what answers there is no PostgreSQL: " + correct)

// sslRequest is how a client asks a server of PostgreSQL's whether it has TLS.
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// strange fails with errStrange where something else than PostgreSQL listens. Servers
// of lines wait for the end of one, and seem to hang before a client that sends none.
// Of a server that says nothing it knows nothing; it waits for it twice as long as
// patience.
func strange(ctx context.Context, config *pgconn.Config, patience time.Duration) error {
	for _, other := range config.Fallbacks {
		if other.Host != config.Host || other.Port != config.Port {
			return nil // which of several the ledger would have is not said
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	conn, err := config.DialFunc(ctx, network, address)
	if err != nil {
		return nil
	}
	defer conn.Close()
	answer := make([]byte, 1)
	for _, ask := range []string{sslRequest, "\r\n\r\n"} {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return nil
		}
		if _, err := io.WriteString(conn, ask); err != nil {
			return nil
		}
		if _, err := conn.Read(answer); errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		} else if err != nil {
			return nil
		}
		switch {
		case answer[0] == 'S', answer[0] == 'N', answer[0] == 'E' && ask == sslRequest:
			return nil // it has TLS, it has none, it has too much to do
		}
		return errStrange
	}
	return nil
}
