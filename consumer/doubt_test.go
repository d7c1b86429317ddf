package consumer_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// crashed copies the world's disk in the middle of its work, as a kill leaves it,
// and opens another world on the copy with the same partners.
func (w *world) crashed(t *testing.T) *world {
	t.Helper()
	x := &world{t: t, dir: t.TempDir(), rates: w.rates, accepted: w.accepted, refused: w.refused, scripted: w.scripted}
	// What the lanes know is never ahead of the log, so it is copied first.
	for _, sub := range []string{"lanes", "log"} {
		if err := copyLive(filepath.Join(x.dir, sub), filepath.Join(w.dir, sub)); err != nil {
			t.Fatal(err)
		}
	}
	x.open()
	t.Cleanup(x.close)
	return x
}

// copyLive copies the files of a directory in which others are at work. A file that
// is renamed meanwhile is missing, or there by either name.
func copyLive(to, from string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(f.Name(), ".tmp") {
			continue
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(to, f.Name()), b, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// The mark of an attempt is written before the wait for the rate, so the call may
// begin much later. After a crash a query's "none" must not be believed while the
// call may still be on its way.
func TestMarkIsNoClockForTheCall(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{Late: 1, LateBy: 300 * ms, FaultCalls: 1}, seat{queries: true, rate: 4})
	orders := w.claim(8, "p")
	w.run()
	for p.Books().Arrivals < len(orders) {
		time.Sleep(time.Millisecond)
	}
	// A process that is killed makes no more calls.
	w.partners[0].Breaker.Hold(breaker.HeldOpen)
	x := w.crashed(t)
	fast := *w.partners[0]
	fast.Rate = 2000
	var err error
	if fast.Breaker, err = breaker.New("partner/p", breaker.Settings{Window: time.Second, FailureRatio: 1, MinCalls: 1000, OpenFor: time.Second, Timeout: 250 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	x.partners = []*consumer.Partner{&fast}
	x.run()
	x.settled(len(orders))
	x.close()
	w.close()
	if v := x.verdict(); v.Doubled > 0 {
		t.Errorf("%d orders doubled: %v", v.Doubled, v.Examples)
	}
}

// Only a person who has seen that an order is parked may overrule its doubt.
func TestReissueThatNobodyDecidedDoesNotRepeatTheCall(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{ApplyThen500: 1, FaultCalls: 1}, seat{})
	orders := w.claim(1, "p")
	w.run()
	w.settled(1)
	s, err := w.log.Order(orders[0])
	if err != nil {
		t.Fatal(err)
	}
	w.from = w.log.End()
	rec := &fallbacklog.Record{Kind: fallbacklog.Reissued, Event: &fallbacklog.Event{
		Order: s.Order.ID, Claim: s.Claim.ID, Campaign: s.Claim.Campaign, Partner: s.Order.Partner, Origin: s.Origin, Run: fallbacklog.RunSettle}}
	if err := w.log.Append(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	w.settled(1)
	w.check()
	if got := p.Books().Arrivals; got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
}

// A guard that was lost may let a claim in twice; the partner cannot dedupe.
func TestClaimThatIsInTheLogTwiceIsDeliveredOnce(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{}, seat{})
	w.claim(1, "p")
	w.run()
	w.settled(1)
	w.accepted = map[gift.ClaimID]bool{} // claim makes the same user's claim again
	w.claim(1, "p")
	others := w.claim(20, "p")
	w.from = w.log.End()
	w.settledAll(others)
	w.check()
	if got := p.Books().Arrivals; got != 1+len(others) {
		t.Errorf("%d calls, want %d", got, 1+len(others))
	}
}

func TestPartnerLeavesAndComesBackByReload(t *testing.T) {
	w := newWorld(t)
	p := w.partner("p", partnertest.Script{Dedupe: true, Timeout: 1, FaultCalls: 1}, seat{idempotent: true, timeout: 500 * time.Millisecond})
	orders := w.claim(5, "p")
	w.run()
	for p.Books().Arrivals < len(orders) {
		time.Sleep(time.Millisecond)
	}
	if err := w.consumer.Reload(nil); err != nil {
		t.Fatal(err)
	}
	if err := w.consumer.Reload(w.partners); err != nil {
		t.Fatal(err)
	}
	w.settled(len(orders))
	w.check()
}

// Damage took an order's claim. The lane goes on without it, also after a repair
// that lays the other records elsewhere.
func TestLostClaimDoesNotStopTheLane(t *testing.T) {
	w := newWorld(t)
	w.partner("p", partnertest.Script{Dedupe: true}, seat{idempotent: true})
	orders := w.claim(2, "p")
	for _, id := range orders {
		s, err := w.log.Order(id)
		if err != nil {
			t.Fatal(err)
		}
		deferred := &fallbacklog.Record{Kind: fallbacklog.Deferred, Event: &fallbacklog.Event{
			Order: id, Claim: s.Claim.ID, Campaign: s.Claim.Campaign, Partner: "p", Origin: s.Origin, Attempts: 1, Due: time.Now()}}
		if err := w.log.Append(t.Context(), deferred); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.log.Order(orders[0])
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	path := filepath.Join(w.dir, "log", "00000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[s.Origin.Offset()+40] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fallbacklog.Repair(disk.OS{}, filepath.Join(w.dir, "log"), fallbacklog.Reached{}); err != nil {
		t.Fatal(err)
	}
	w.open()
	fresh := w.claim(3, "p")
	w.run()
	w.settledAll(append(fresh, orders[1]))
}
