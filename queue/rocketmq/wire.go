package rocketmq

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	dialTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
	// maxPending bounds the requests under way on one connection.
	maxPending = 1 << 14
)

// ErrAway: a server that is needed does not answer, or knows of no broker. It may
// be down, and then waiting helps, or its address may be wrong.
var ErrAway = errors.New("away")

// wire holds one connection to each server, made when it is needed and made anew
// when it has broken. It is safe for concurrent use.
type wire struct {
	// heard takes in the requests that servers make. It must not block.
	heard func(frame)

	mu     sync.Mutex
	conns  map[string]*link
	closed bool
	work   sync.WaitGroup
}

func newWire(heard func(frame)) *wire {
	return &wire{heard: heard, conns: make(map[string]*link)}
}

// call sends a request and waits for its answer, whatever that says, until ctx
// ends. After an error the request may or may not have been carried out. The error
// is errNotRemoting where something else answered, and ErrAway where nothing did.
func (w *wire) call(ctx context.Context, addr string, code int, fields map[string]string, body []byte) (frame, error) {
	l, err := w.link(addr)
	if err != nil {
		return frame{}, err
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
		return frame{}, fmt.Errorf("%s: no connection: %w: %w", addr, ErrAway, ctx.Err())
	}
	answer, err := l.call(ctx, frame{Code: code, Language: "GO", Version: protocolVersion, Fields: fields, body: body})
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, errNotRemoting):
		return frame{}, fmt.Errorf("%s: %w", addr, err)
	}
	return frame{}, fmt.Errorf("%s: %w: %w", addr, ErrAway, err)
}

// link finds the connection to a server, or has one made.
func (w *wire) link(addr string) (*link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, net.ErrClosed
	}
	if l := w.conns[addr]; l != nil && !l.broken() {
		return l, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{ready: make(chan struct{}), ended: ctx.Done(), cancel: cancel, pending: make(map[int32]chan frame)}
	w.conns[addr] = l
	w.work.Go(func() { l.run(ctx, addr, w.heard) })
	return l, nil
}

// close ends all connections; requests under way fail.
func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	for _, l := range w.conns {
		l.fail(net.ErrClosed)
	}
	w.mu.Unlock()
	w.work.Wait()
}

// link is one connection.
type link struct {
	ready  chan struct{}   // closed when the connection has been made, or has failed
	ended  <-chan struct{} // closed, by cancel, when it has broken
	cancel context.CancelFunc

	writing sync.Mutex

	mu      sync.Mutex
	conn    net.Conn
	err     error
	next    int32
	pending map[int32]chan frame
}

func (l *link) broken() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// fail breaks the connection; the first reason counts.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	l.cancel()
	if l.conn != nil {
		l.conn.Close()
	}
}

// run makes the connection and reads from it until it breaks.
func (l *link) run(ctx context.Context, addr string, heard func(frame)) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	l.mu.Lock()
	switch {
	case err != nil:
	case l.err != nil:
		conn.Close()
		err = l.err
	default:
		l.conn = conn
	}
	l.mu.Unlock()
	if err != nil {
		l.fail(err)
		close(l.ready)
		return
	}
	close(l.ready)
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		f, ok, err := readFrame(r)
		if err != nil {
			l.fail(err)
			return
		}
		switch {
		case !ok:
		case f.isAnswer():
			l.mu.Lock()
			answer := l.pending[f.Opaque]
			delete(l.pending, f.Opaque)
			l.mu.Unlock()
			if answer != nil {
				answer <- f
			}
		default:
			heard(f)
		}
	}
}

func (l *link) call(ctx context.Context, f frame) (frame, error) {
	answer := make(chan frame, 1)
	l.mu.Lock()
	switch {
	case l.err != nil:
		err := l.err
		l.mu.Unlock()
		return frame{}, err
	case len(l.pending) >= maxPending:
		l.mu.Unlock()
		return frame{}, fmt.Errorf("%d requests wait for their answers", maxPending)
	}
	l.next++
	f.Opaque = l.next
	l.pending[f.Opaque] = answer
	conn := l.conn
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.pending, f.Opaque)
		l.mu.Unlock()
	}()
	if err := l.write(conn, f); err != nil {
		return frame{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-l.ended:
		return frame{}, l.err
	case <-ctx.Done():
		return frame{}, ctx.Err()
	}
}

// write puts one frame on the connection. One that was cut off has broken it.
func (l *link) write(conn net.Conn, f frame) error {
	b, err := f.append(nil)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err = conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err == nil {
		_, err = conn.Write(b)
	}
	if err != nil {
		l.fail(err)
	}
	return err
}
