package consumer_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/delivery/partnertest"
)

// lines is what a consumer says.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count counts the lines of a level with a message.
func (l *lines) count(level, message string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, "level="+level) && strings.Contains(line, message) {
			n++
		}
	}
	return n
}

// A partner that can neither be asked nor dedupes parks whatever it does not
// answer clearly: one line says so for all, and each is there in detail.
func TestManyParkedOrdersAreFewLines(t *testing.T) {
	const orders = 60
	w := newWorld(t)
	var said lines
	w.logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.partner("p", partnertest.Script{Error500: 1}, seat{openFor: 10 * time.Millisecond})
	w.claim(orders, "p")
	began := time.Now()
	w.run()
	w.settled(orders)
	w.check()
	const parked = "order parked"
	warned, detailed := said.count("WARN", parked), said.count("DEBUG", parked)
	// One at once, and one for each 10 s that a slow machine may take.
	if most := 1 + int(time.Since(began)/(10*time.Second)); warned < 1 || warned > most || detailed != orders-1 {
		t.Errorf("%d warnings and %d lines of detail about %d orders", warned, detailed, orders)
	}
}
