package delivery

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"time"
)

// countedConn counts the bytes of requests that it was given to send, so that
// a call that failed can be told apart exactly: not one byte left, or some may
// have. For https it wraps the TLS connection, so handshakes do not count.
type countedConn struct {
	net.Conn

	mu     sync.Mutex
	sent   int64 // those of a Write under way included
	sealed bool
}

// Write counts p before it is sent and takes back afterwards what was not: a
// count read at any moment is never too low.
func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.sent += int64(len(p))
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	if n < len(p) {
		c.mu.Lock()
		c.sent -= int64(len(p) - n)
		c.mu.Unlock()
	}
	return n, err
}

// seal stops the connection from sending anything more and says how much it has
// sent. What seal answers stays true, whatever net/http still had in mind.
func (c *countedConn) seal() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	return c.sent
}

func (c *countedConn) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// line is the connection that one call was given.
type line struct {
	conn  *countedConn
	begin int64
	wrote bool // on a connection before this one, or on one that does not count
}

// take is called when net/http has a connection for the call and before it
// writes to it.
func (l *line) take(info httptrace.GotConnInfo) {
	if l.conn != nil {
		l.drop()
	}
	conn := info.Conn
	// Through a proxy net/http does the TLS itself, on top of ours. The closing
	// alert then counts as sent, which errs on the safe side.
	if inner, ok := conn.(*tls.Conn); ok {
		conn = inner.NetConn()
	}
	counted, ok := conn.(*countedConn)
	if !ok {
		l.wrote = true
		return
	}
	l.conn, l.begin = counted, counted.count()
}

// drop gives the connection up and reports whether any byte of the call may have
// left on it.
func (l *line) drop() bool {
	if l.conn != nil {
		l.wrote = l.conn.seal() > l.begin || l.wrote
		l.conn = nil
	}
	return l.wrote
}

// dialer opens counted connections. net/http lets a dial outlive the call that
// began it, so each step has its own bound.
type dialer struct {
	timeout time.Duration
	tls     *tls.Config
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn}, nil
}

func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := d.tls.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return &countedConn{Conn: secure}, nil
}

func (d *dialer) open(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: d.timeout}).DialContext(ctx, network, address)
}
