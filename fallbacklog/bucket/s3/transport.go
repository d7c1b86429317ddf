package s3

import (
	"context"
	"net"
	"net/http"
	"time"
)

// stall is how long a connection may stand still, with bytes or an answer to come.
const stall = time.Minute

// newTransport makes connections that are given up where they stand still: an
// upload may take long, but not for nothing.
func newTransport() *http.Transport {
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{c}, nil
		},
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     stall / 2,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true, // of what is read, checksums are known
	}
}

// conn moves its deadline with each read and write, that of a read under way too:
// an answer is awaited while a request is being written.
type conn struct{ net.Conn }

func (c *conn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
