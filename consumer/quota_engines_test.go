//go:build engines

package consumer_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"slices"
	"testing"
	"time"

	"manna/consumer/quota"
	"manna/delivery/partnertest"
	"manna/gift"
	"manna/internal/memcache/memcachetest"
)

const doorRate = gift.Rate(500)

// phase is what a loss that is there once, as the slots of a killed process are, is
// measured against: a longer one tells what is used in the long run.
var phase = flag.Duration("door-phase", 2*time.Second, "how long each case of TestQuotaAtTheDoor is watched")

// door is a partner whose rate processes share through a real memcached.
type door struct {
	t       *testing.T
	server  *memcachetest.Server
	partner *partnertest.Partner
	all     []*laneProcess
	nodes   []*laneProcess // those that are alive
}

// Three processes share a partner's rate through a memcached, and none runs out of what
// there is to deliver: all are there, one is killed, the memcached forgets
// everything, dies or hangs. Judged are the calls as the processes start them, of which
// the partner must have seen no more. What a second holds at its own door is told, since
// calls come in there together that a busy machine has held up on their way, and so is
// how much of the rate is used.
func TestQuotaAtTheDoor(t *testing.T) {
	t.Run("clocks agree", func(t *testing.T) {
		t.Parallel() // the two wait more than they work
		d := newDoor(t, 0)
		d.cases()
		d.server.Kill()
		d.until("standby")
		d.server.Restart()
		d.until("central")
		d.kept(1.02)
	})
	t.Run("clocks 50 ms apart", func(t *testing.T) {
		t.Parallel()
		d := newDoor(t, 50*time.Millisecond)
		d.cases()
		d.server.Pause()
		d.until("standby")
		d.server.Resume()
		d.until("central")
		d.kept(1.05)
	})
}

// newDoor starts three processes whose clocks are so far apart.
func newDoor(t *testing.T, apart time.Duration) *door {
	t.Helper()
	d := &door{
		t: t, server: memcachetest.Start(t, "-M"),
		partner: partnertest.Start(t, partnertest.Script{Name: "p", Dedupe: true, Rate: float64(doorRate)}),
	}
	for i, ahead := range []time.Duration{-apart / 2, 0, apart / 2} {
		d.nodes = append(d.nodes, startLane(t, laneJob{
			Name: string(rune('a' + i)), Dir: t.TempDir(), Partner: d.partner.URL, Memcached: d.server.Addr,
			Rate: doorRate, Ahead: ahead,
		}))
	}
	d.all = d.nodes
	d.until("central")
	return d
}

// cases are those that are the same whatever the clocks show.
func (d *door) cases() {
	d.watch("three nodes", func() {})
	d.watch("one of them killed", func() {
		d.nodes[0].kill()
		d.nodes = d.nodes[1:]
	})
	d.watch("after a wipe", func() {
		d.server.Wipe()
		time.Sleep(quota.WipePause) // what they start meanwhile, they had before
		d.until("central")
	})
}

func (d *door) until(mode string) {
	d.t.Helper()
	for _, n := range d.nodes {
		n.until(mode)
	}
}

// watch tells how much of the rate comes in at the door after something happened, and
// which second was the fullest from then on.
func (d *door) watch(what string, happens func()) {
	d.t.Helper()
	first, since := d.partner.Books().Arrivals, time.Now().UnixNano()
	happens()
	before, missed, began := d.partner.Books(), d.missed(), time.Now()
	time.Sleep(*phase)
	after, took := d.partner.Books(), time.Since(began)
	all := float64(doorRate) * took.Seconds()
	d.t.Logf("%-20s %5.1f %% of the rate used, %.1f %% held and let pass; the fullest second has %d starts and %d arrivals at %v; the partner stalled %d times", what+":",
		100*float64(after.Arrivals-before.Arrivals)/all, 100*float64(d.missed()-missed)/all, fullest(d.starts(since)), fullest(d.arrivals()[first:]), doorRate, len(after.Stalls)-len(before.Stalls))
}

// missed is how many slots the processes that are alive held and could not use in time.
func (d *door) missed() (all uint64) {
	for _, n := range d.nodes {
		all += n.quota().Missed
	}
	return all
}

// starts are the calls that the processes have begun since a time.
func (d *door) starts(since int64) (at []int64) {
	for _, n := range d.all {
		at = append(at, n.starts()...)
	}
	slices.Sort(at)
	first, _ := slices.BinarySearch(at, since)
	return at[first:]
}

// arrivals are the calls at the partner's door, as it counts them itself.
func (d *door) arrivals() (at []int64) {
	d.t.Helper()
	answer, err := http.Get(d.partner.URL + "/books?arrivals=yes")
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	var books struct {
		Deltas []int64 `json:"arrival_deltas"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&books); err != nil {
		d.t.Fatal(err)
	}
	last := int64(0)
	for _, delta := range books.Deltas {
		last += delta
		at = append(at, last)
	}
	return at
}

// fullest is the most that any sliding second holds.
func fullest(at []int64) (most int) {
	for i := range at {
		end, _ := slices.BinarySearch(at[i:], at[i]+int64(time.Second))
		most = max(most, end)
	}
	return most
}

// kept holds the processes and the partner's books to the promise: no sliding second
// above rate × most, no call that was not counted, and no order granted twice.
func (d *door) kept(most float64) {
	d.t.Helper()
	for _, n := range d.nodes {
		n.end()
	}
	starts, books := d.starts(0), d.partner.Books()
	d.t.Logf("%d starts, at most %d in a second; %d arrivals, at most %d; at %v", len(starts), fullest(starts), books.Arrivals, books.PeakPerSecond, doorRate)
	if n := fullest(starts); float64(n) > float64(doorRate)*most {
		d.t.Errorf("a second has %d starts, want at most %.2f of %v", n, most, doorRate)
	}
	// Arrivals count queries as well; these processes make none.
	if books.Arrivals > len(starts) {
		d.t.Errorf("%d calls came in, of %d that were started", books.Arrivals, len(starts))
	}
	if doubled := books.Doubled(); len(doubled) > 0 {
		d.t.Errorf("%d orders were granted more than once, the first is %v", len(doubled), doubled[0].OrderID)
	}
}
