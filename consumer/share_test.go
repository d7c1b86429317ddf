package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"manna/consumer/quota"
	"manna/gift"
)

// flaky is a centre with a network before it.
type flaky struct {
	quota.Memory
	mu     sync.Mutex
	random *rand.Rand
	away   bool    // nothing is reached
	loses  float64 // share of the calls whose question or answer is lost
}

var errAway = errors.New("no connection")

// trip takes a call's time, and says whether it comes through and its answer back.
func (f *flaky) trip() (there, back bool) {
	f.mu.Lock()
	took := time.Duration(f.random.Int64N(int64(2 * time.Millisecond)))
	there, back = !f.away && f.random.Float64() >= f.loses, f.random.Float64() >= f.loses
	f.mu.Unlock()
	time.Sleep(took)
	return there, back
}

func (f *flaky) set(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

func (f *flaky) Load(ctx context.Context, partner string) (quota.Register, quota.Version, error) {
	there, back := f.trip()
	if !there || !back {
		return quota.Register{}, nil, errAway
	}
	return f.Memory.Load(ctx, partner)
}

func (f *flaky) Store(ctx context.Context, partner string, r quota.Register, v quota.Version) error {
	there, back := f.trip()
	if !there {
		return errAway
	}
	err := f.Memory.Store(ctx, partner, r, v)
	if !back {
		return errAway
	}
	return err
}

// lanes are nodes that share a partner, each with callers that call whenever they
// may while the node has a backlog.
type lanes struct {
	t      *testing.T
	centre *flaky
	quota  *Quota
	rate   gift.Rate
	nodes  []*laneNode
	all    sync.WaitGroup
	opened time.Time
	size   atomic.Int32 // of nodes

	mu sync.Mutex
	at []time.Duration // starts at the partner's door
}

type laneNode struct {
	*share
	cancel context.CancelFunc
	mu     sync.Mutex
	demand chan struct{} // closed while there is a backlog
}

func newLanes(t *testing.T, rate gift.Rate, standby float64, seed uint64) *lanes {
	l := &lanes{t: t, rate: rate, opened: time.Now(), centre: &flaky{random: rand.New(rand.NewPCG(seed, 0))}}
	l.quota = &Quota{Centre: l.centre, Standby: standby, Instances: func() int { return int(l.size.Load()) }}
	return l
}

const callers = 40

// node adds one whose clock is ahead by skew.
func (l *lanes) node(skew time.Duration) *laneNode {
	ctx, cancel := context.WithCancel(l.t.Context())
	n := &laneNode{cancel: cancel, demand: make(chan struct{})}
	n.share = newShare("p", l.quota, l.rate, func() time.Time { return time.Now().Add(skew) }, slog.New(slog.DiscardHandler))
	l.nodes = append(l.nodes, n)
	l.size.Add(1)
	l.all.Go(func() { n.run(ctx) })
	for range callers {
		l.all.Go(func() {
			for {
				n.mu.Lock()
				demand := n.demand
				n.mu.Unlock()
				select {
				case <-demand:
				case <-ctx.Done():
					return
				}
				if n.Wait(ctx) != nil {
					return
				}
				l.mu.Lock()
				l.at = append(l.at, time.Since(l.opened))
				l.mu.Unlock()
				time.Sleep(5 * time.Millisecond) // the call
			}
		})
	}
	return n
}

// stall keeps the node from starting anything for a while, as a busy machine does.
// A node that starts nothing anyway is left alone.
func (n *laneNode) stall(d time.Duration) {
	select {
	case n.turn <- struct{}{}:
		time.Sleep(d)
		<-n.turn
	case <-time.After(d):
	}
}

func (n *laneNode) backlog(is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.demand:
		if !is {
			n.demand = make(chan struct{})
		}
	default:
		if is {
			close(n.demand)
		}
	}
}

func (l *lanes) stop() {
	for _, n := range l.nodes {
		n.cancel()
	}
	l.all.Wait()
}

// peak is the most starts that any sliding second held, and when.
func (l *lanes) peak() (peak int, to time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.at)
	first := 0
	for last, at := range l.at {
		for at-l.at[first] >= time.Second {
			first++
		}
		if n := last - first + 1; n > peak {
			peak, to = n, at
		}
	}
	return peak, to
}

// count is how many starts there were.
func (l *lanes) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

// used is the share of the rate that was used in the time up to now.
func (l *lanes) used(d time.Duration) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, n := time.Since(l.opened), 0
	for _, at := range l.at {
		if at >= now-d {
			n++
		}
	}
	return float64(n) / (float64(l.rate) * d.Seconds())
}

// bound is what package quota promises of a second.
func bound(rate gift.Rate, apart time.Duration) int {
	return int(math.Ceil(float64(time.Second+quota.Late+apart) / float64(quota.Spacing(rate))))
}

func (l *lanes) wantUsed(what string, d time.Duration) {
	l.t.Helper()
	if used := l.used(d); used < 0.97 {
		l.t.Errorf("%s: %.4f of the rate is used, want at least 0.97", what, used)
	}
}

func (l *lanes) wantPeak(apart time.Duration, more int) {
	l.t.Helper()
	if peak, to := l.peak(); peak > bound(l.rate, apart)+more {
		l.t.Errorf("the second up to %v holds %d starts, want at most %d at %v with clocks %v apart", to, peak, bound(l.rate, apart)+more, l.rate, apart)
	}
}

func TestSharedRateIsUsedAndKept(t *testing.T) {
	for _, rate := range []gift.Rate{2, 10, 150, 3000} {
		for _, apart := range []time.Duration{0, 50 * time.Millisecond} {
			t.Run(fmt.Sprintf("%v/%v", rate, apart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLanes(t, rate, 0.7, 1)
					defer l.stop()
					a, b, c := l.node(-apart/2), l.node(0), l.node(apart/2)
					// What the seconds count that begin and end between two slots.
					long := max(10*time.Second, time.Duration(400/float64(rate)*float64(time.Second)))
					for _, n := range []*laneNode{a, b, c} {
						n.backlog(true)
					}
					time.Sleep(5 * time.Second)
					time.Sleep(long)
					l.wantUsed("three nodes", long)
					all := a.snapshot().Used + b.snapshot().Used + c.snapshot().Used
					for i, n := range l.nodes {
						// A node whose clock is ahead has more of them, and none goes without.
						share := float64(n.snapshot().Used) / float64(all)
						if rate >= 10 && (share < 0.1 || apart == 0 && (share < 0.2 || share > 0.5)) {
							t.Errorf("node %d has %.2f of the starts, want about a third", i, share)
						}
					}
					a.backlog(false)
					b.backlog(false)
					time.Sleep(time.Second)
					time.Sleep(long)
					l.wantUsed("one node", long)
					a.backlog(true)
					c.cancel()
					time.Sleep(time.Second)
					time.Sleep(long)
					l.wantUsed("one killed", long)
					l.wantPeak(apart, 0)
				})
			})
		}
	}
}

// A wipe costs what package quota says, and never hands a slot out twice.
func TestSharedRateOverAWipe(t *testing.T) {
	for _, apart := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(fmt.Sprint(apart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLanes(t, 600, 0.7, 2)
				defer l.stop()
				for i := range 3 {
					l.node(time.Duration(i-1) * apart / 2).backlog(true)
				}
				time.Sleep(5 * time.Second)
				for i := range 3 {
					time.Sleep(time.Duration(i) * 7 * time.Millisecond)
					l.centre.Wipe()
					time.Sleep(time.Minute)
					l.wantUsed("a minute with a wipe", time.Minute)
				}
				l.wantPeak(apart, 0)
			})
		})
	}
}

// At a slow rate the pause is shorter than the way from one start to the next: a
// wipe must not bring the two together.
func TestSharedRateOverAWipeIfSlow(t *testing.T) {
	for _, rate := range []gift.Rate{0.5, 1, 1.5} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLanes(t, rate, 0, 10)
				defer l.stop()
				for range 5 {
					l.node(0).backlog(true)
				}
				time.Sleep(4 * time.Second)
				for i := range 100 {
					// At every moment between two starts.
					time.Sleep(4*time.Second + time.Duration(i)*23*time.Millisecond)
					l.centre.Wipe()
				}
				l.wantPeak(0, 0)
			})
		})
	}
}

// A process that stood still for long cannot tell whether others are in standby: where
// the register is gone it waits as long as one who has seen the centre away.
func TestSharedRateAfterAStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var centre quota.Memory
		s := newShare("p", &Quota{Centre: &centre}, 600, time.Now, slog.New(slog.DiscardHandler))
		for stood, want := range map[time.Duration]time.Duration{quota.Ask: quota.WipePause, 10 * time.Second: quota.Pause} {
			s.found(time.Now())
			centre.Wipe()
			time.Sleep(stood)
			if _, _, err := s.lease(t.Context(), quota.Spacing(600), 1); err != nil {
				t.Fatal(err)
			}
			r, _, err := centre.Load(t.Context(), "p")
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Until(time.Unix(0, r.Next)); got != want+quota.Spacing(600) {
				t.Errorf("%v after it was there last, a register that is gone begins in %v, want a spacing more than %v", stood, got, want)
			}
		}
	})
}

// The centre goes away and comes back, as it was and wiped: the lanes go on alone at
// their share, and never add to what the centre hands out.
func TestSharedRateOverAnOutage(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprint("wiped=", wiped), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLanes(t, 600, 0.7, 3)
				defer l.stop()
				for range 3 {
					l.node(0).backlog(true)
				}
				idle := l.node(0)
				time.Sleep(5 * time.Second)
				for range 3 {
					l.centre.set(true)
					time.Sleep(4 * time.Second)
					if mode := l.nodes[0].snapshot().Mode; mode != modeStandby {
						t.Errorf("after 4 s without the centre the lane is %s, want %s", mode, modeStandby)
					}
					time.Sleep(10 * time.Second)
					// Three of four nodes have a backlog.
					if used := l.used(10 * time.Second); used < 0.7*0.75*0.97 || used > 0.7*0.75 {
						t.Errorf("%.4f of the rate is used alone, want just below %.4f", used, 0.7*0.75)
					}
					if wiped {
						l.centre.Wipe()
					}
					l.centre.set(false)
					time.Sleep(shareRetry + 10*time.Millisecond)
					before := l.count()
					time.Sleep(quota.Pause - 2*quota.Ask)
					if n := l.count() - before; n > 0 {
						t.Errorf("%d starts while the centre comes back, want none until all have noticed", n)
					}
					time.Sleep(2 * time.Second)
					time.Sleep(10 * time.Second)
					l.wantUsed("back", 10*time.Second)
				}
				if mode := idle.snapshot().Mode; mode != modeCentral {
					t.Errorf("an idle lane is %s, want %s", mode, modeCentral)
				}
				// At a switch-over each node may have one start on each side.
				l.wantPeak(0, len(l.nodes))
			})
		})
	}
}

func TestSharedRateWithoutStandbyPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 100, 0, 4)
		defer l.stop()
		n := l.node(0)
		n.backlog(true)
		time.Sleep(5 * time.Second)
		l.centre.set(true)
		time.Sleep(time.Second)
		before := n.snapshot().Used
		time.Sleep(time.Minute)
		status := n.snapshot()
		if status.Used != before || status.Mode != modePaused || status.Problem != errAway.Error() {
			t.Errorf("%+v after a minute without the centre, want it paused at %d", status, before)
		}
		l.centre.set(false)
		time.Sleep(3 * time.Second)
		time.Sleep(5 * time.Second)
		l.wantUsed("back", 5*time.Second)
	})
}

// Whatever happens to centre and nodes, the promise of package quota holds.
func TestSharedRateNeverOverrunsASecond(t *testing.T) {
	rates := []gift.Rate{0.5, 2, 2.5, 29.9, 100, 1000}
	type event struct {
		after time.Duration
		what  string
		node  int
	}
	events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			after: time.Duration(rapid.Int64Range(0, int64(1500*time.Millisecond)).Draw(t, "after")),
			what:  rapid.SampledFrom([]string{"wipe", "away", "back", "backlog", "idle", "idle", "kill", "join", "rate", "stall", "stall"}).Draw(t, "what"),
			node:  rapid.IntRange(0, 7).Draw(t, "node"),
		}
	}), 1, 15)
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom(rates).Draw(rt, "rate")
		apart := rapid.SampledFrom([]time.Duration{0, 20 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond}).Draw(rt, "apart")
		loses := rapid.SampledFrom([]float64{0, 0, 0.05, 0.3}).Draw(rt, "loses")
		plan := events.Draw(rt, "plan")
		seed := rapid.Uint64().Draw(rt, "seed")
		var failed string
		synctest.Test(t, func(t *testing.T) {
			l := newLanes(t, rate, 0, seed)
			l.centre.loses = loses
			skew := rand.New(rand.NewPCG(seed, 1))
			join := func() {
				l.node(time.Duration(skew.Int64N(int64(apart) + 1))).backlog(true)
			}
			for range 3 {
				join()
			}
			time.Sleep(2 * time.Second)
			for _, e := range plan {
				time.Sleep(e.after)
				n := l.nodes[e.node%len(l.nodes)]
				switch e.what {
				case "wipe":
					l.centre.Wipe()
				case "away", "back":
					l.centre.set(e.what == "away")
				case "backlog", "idle":
					n.backlog(e.what == "backlog")
				case "kill":
					n.cancel()
				case "join":
					join()
				case "stall":
					n.stall(e.after)
				case "rate": // one node hears of a lower rate first
					n.SetRate(rate / 2)
				}
			}
			time.Sleep(3 * time.Second)
			l.stop()
			if peak, to := l.peak(); peak > bound(rate, apart) {
				failed = fmt.Sprintf("the second up to %v holds %d starts, want at most %d", to, peak, bound(rate, apart))
			}
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// A node that stalls lets its slots go: it does not make up for them.
func TestSharedRateLetsMissedSlotsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 1000, 0, 9)
		defer l.stop()
		a, b := l.node(0), l.node(0)
		a.backlog(true)
		b.backlog(true)
		time.Sleep(4 * time.Second)
		for range 20 {
			a.stall(60 * time.Millisecond)
			time.Sleep(100 * time.Millisecond)
		}
		if s := a.snapshot(); s.Missed == 0 {
			t.Errorf("%+v: the stalls missed nothing", s)
		}
		l.wantPeak(0, 0)
	})
}

// The tests above have to be able to see slots that are handed out twice.
func TestSharedRateCanaryOfAWipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 1000, 0, 5)
		defer l.stop()
		for range 3 {
			l.node(0).backlog(true)
		}
		time.Sleep(3 * time.Second)
		for range 5 { // as a centre would that begins anew without a pause
			time.Sleep(300 * time.Millisecond)
			l.centre.Wipe()
			_ = l.centre.Memory.Store(t.Context(), "p", quota.Register{Spacing: quota.Spacing(1000), Next: time.Now().UnixNano()}, nil)
		}
		time.Sleep(time.Second)
		if peak, _ := l.peak(); peak <= bound(1000, 0) {
			t.Errorf("the fullest second holds %d starts, want more than %d", peak, bound(1000, 0))
		}
	})
}

func TestSharedRateThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 1000, 0, 6)
		defer l.stop()
		a, b := l.node(0), l.node(0)
		a.backlog(true)
		b.backlog(true)
		time.Sleep(4 * time.Second)
		a.backlog(false) // an idle node has a say too
		time.Sleep(time.Second)
		a.SetRate(100)
		time.Sleep(2 * time.Second)
		time.Sleep(10 * time.Second)
		l.rate = 100
		if used := l.used(10 * time.Second); used < 0.97 || used > 1 {
			t.Errorf("%.4f of the lower rate is used, want at least 0.97 and at most 1", used)
		}
		a.SetRate(1000)
		time.Sleep(quota.Confirm + time.Second)
		time.Sleep(10 * time.Second)
		l.rate = 1000
		l.wantUsed("raised again", 10*time.Second)
		l.wantPeak(0, 0)
	})
}

func TestShareWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(t, 0.1, 0, 8)
		defer l.stop()
		n := l.node(0)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var both sync.WaitGroup
		for range 2 { // one waits for its start, the other for its turn
			both.Go(func() {
				if err := n.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Wait = %v, want %v", err, context.DeadlineExceeded)
				}
			})
		}
		both.Wait()
		if err := n.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait on an ended context = %v", err)
		}
		if err := n.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if s := n.snapshot(); s.Used != 1 {
			t.Errorf("%d starts, want 1", s.Used)
		}
	})
}
