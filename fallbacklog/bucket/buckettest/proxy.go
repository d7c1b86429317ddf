package buckettest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands before a server and resets connections as it is told.
type Proxy struct {
	Addr string

	listener net.Listener
	to       string
	cut      func(sent int64) bool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
	all   sync.WaitGroup
}

// NewProxy starts a proxy to an address. cut is asked with how many bytes of a
// connection have gone to the server so far, before each part goes: where it says so,
// both ends are reset instead.
func NewProxy(t testing.TB, to string, cut func(sent int64) bool) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), listener: l, to: to, cut: cut, conns: make(map[net.Conn]struct{})}
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer p.drop(c)
	if !p.keep(c) {
		return
	}
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return // who called sees the connection end
	}
	defer p.drop(s)
	if !p.keep(s) {
		return
	}
	back := make(chan struct{})
	p.all.Go(func() {
		defer close(back)
		_, _ = io.Copy(c, s)
		c.Close()
	})
	b := make([]byte, 16<<10)
	for sent := int64(0); ; {
		n, err := c.Read(b)
		if n > 0 && p.cut(sent) {
			reset(c)
			reset(s)
			break
		}
		if _, failed := s.Write(b[:n]); failed != nil || err != nil {
			s.Close()
			break
		}
		sent += int64(n)
	}
	<-back
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.conns[c] = struct{}{}
	}
	return !p.ended
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.ended = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}
