package partnertest

import (
	"net"
	"sync"
	"time"
)

const reopenEach = 10 * time.Millisecond // how often a port that is taken is tried again

// gate is a listener that can be shut in two ways and opened again on the same
// address.
type gate struct {
	network, address string
	first            net.Addr

	mu     sync.Mutex
	by     string       // "", DownReset or DownRefuse
	inner  net.Listener // nil while connections are refused
	moved  chan struct{}
	conns  map[*gateConn]struct{}
	closed bool
}

func newGate(l net.Listener) *gate {
	return &gate{
		network: l.Addr().Network(), address: l.Addr().String(), first: l.Addr(),
		inner: l, moved: make(chan struct{}), conns: make(map[*gateConn]struct{}),
	}
}

// set shuts the gate by reset or by refusal, or opens it (""). It is false where
// the address is taken just now and set should be called again.
func (g *gate) set(by string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.by == by && (g.inner != nil) == (by != DownRefuse) {
		return true
	}
	g.by = by
	if by == DownRefuse {
		g.inner.Close()
		g.inner = nil
	} else if g.inner == nil {
		l, err := net.Listen(g.network, g.address)
		if err != nil {
			return false
		}
		g.inner = l
	}
	if by != "" {
		for c := range g.conns {
			cut(c.Conn)
		}
		clear(g.conns)
	}
	close(g.moved)
	g.moved = make(chan struct{})
	return true
}

// Accept gives the next connection that was made while the gate was open.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		inner, moved, closed := g.inner, g.moved, g.closed
		g.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		if inner == nil {
			<-moved
			continue
		}
		conn, err := inner.Accept()
		if err != nil {
			if g.moving(inner) {
				continue
			}
			return nil, err
		}
		if c := g.admit(conn); c != nil {
			return c, nil
		}
	}
}

// moving reports whether inner is no longer the listener, so that its error
// means nothing.
func (g *gate) moving(inner net.Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inner != inner || g.closed
}

func (g *gate) admit(conn net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by != "" || g.closed {
		cut(conn)
		return nil
	}
	c := &gateConn{Conn: conn, gate: g}
	g.conns[c] = struct{}{}
	return c
}

// Close ends Accept.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	close(g.moved)
	if g.inner == nil {
		return nil
	}
	return g.inner.Close()
}

// Addr is the address of the listener that the gate began with.
func (g *gate) Addr() net.Addr { return g.first }

// gateConn is a connection that the gate can cut.
type gateConn struct {
	net.Conn
	gate *gate
}

// SetLinger is the TCP connection's own.
func (c *gateConn) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.SetLinger(seconds)
	}
	return nil
}

// Close closes the connection and lets the gate forget it.
func (c *gateConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
