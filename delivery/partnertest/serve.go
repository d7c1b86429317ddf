package partnertest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	heartbeat = 5 * time.Millisecond
	stallOver = 20 * time.Millisecond
	lastWords = 250 * time.Millisecond // for answers to leave at the end
)

// T is what Start needs of a *testing.T.
type T interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Start serves a partner on a loopback port until the test ends.
func Start(t T, s Script) *Partner {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatalf("partnertest: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("partnertest: %v", err)
	}
	p := New(s)
	p.URL = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Fatalf("partnertest: %v", err)
		}
	})
	return p
}

// Serve serves the partner on l until ctx ends, and closes l. It returns when
// every request and goroutine has ended; orders that were still to be applied
// late have been applied. A partner is served once.
func (p *Partner) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gate := newGate(l)
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // callers that hang up are its daily bread
	}
	var owned sync.WaitGroup
	owned.Go(func() { p.beat(ctx) })
	owned.Go(func() { p.keepGate(ctx, gate) })
	failed := make(chan error, 1)
	owned.Go(func() { failed <- server.Serve(gate) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	p.stop()
	// Answers are on their way to their connections; what is open without a
	// request is not worth waiting for.
	ending, done := context.WithTimeout(context.Background(), lastWords)
	_ = server.Shutdown(ending) // that time ran out is dealt with by Close
	done()
	server.Close()
	gate.Close()
	owned.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// beat books the times in which this process was not running.
func (p *Partner) beat(ctx context.Context) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	last := p.ledger.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := p.ledger.now()
		if now-last > int64(stallOver) {
			p.ledger.stall(last, now)
		}
		last = now
	}
}

// keepGate opens and closes the gate as the script's down windows say.
func (p *Partner) keepGate(ctx context.Context, gate *gate) {
	for {
		p.mu.Lock()
		script, set, changed := p.script, p.scriptSet, p.changed
		p.mu.Unlock()
		by, stays := script.down(time.Since(set))
		if !gate.set(by) {
			stays = reopenEach
		}
		var timer <-chan time.Time
		if stays > 0 {
			timer = time.After(stays)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer:
		}
	}
}
