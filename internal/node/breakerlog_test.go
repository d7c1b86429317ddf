package node

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"manna/breaker"
	"manna/internal/notice"
)

// What a person does is the last word, whatever the breaker did just before.
func TestHeldBreakerIsNotToldToBeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &said{}
		log := newBreakerLog(slog.New(slog.NewJSONHandler(said, nil)))
		for range 2 {
			log.changed(breaker.Snapshot{Name: "partner/p", State: breaker.Open})
			log.changed(breaker.Snapshot{Name: "partner/p", State: breaker.Closed})
		}
		log.changed(breaker.Snapshot{Name: "partner/p", State: breaker.Open})
		log.changed(breaker.Snapshot{Name: "partner/p", State: breaker.Closed, Mode: breaker.HeldClosed})
		time.Sleep(2 * notice.Every)
		synctest.Wait()
		lines := said.lines(t, "breaker")
		if last := lines[len(lines)-1]; len(lines) != 3 || last["mode"] != "held_closed" || last["state"] != "closed" {
			t.Errorf("got %v", lines)
		}
	})
}

// A partner that is taken out while its breaker is open, and added again, has a breaker
// that is closed: that this one opens is news.
func TestBreakerOfAPartnerThatIsAddedAgain(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	opens := func() {
		t.Helper()
		b, ok := w.breakers.Get("partner/p")
		if !ok {
			t.Fatal("there is no such breaker")
		}
		for range 10 {
			call, err := b.Allow()
			if err != nil {
				return
			}
			call.Done(breaker.Failure)
		}
		t.Fatalf("it has not opened: %+v", b.Snapshot())
	}
	opens()
	if err := w.Reload(w.config("p: {url", "q: {url", "partner: p}", "partner: q}")); err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(w.config()); err != nil {
		t.Fatal(err)
	}
	opens()
	if lines := w.said.lines(t, "breaker"); len(lines) != 2 || lines[1]["state"] != "open" || lines[1]["level"] != "WARN" {
		t.Errorf("got %v", lines)
	}
}
