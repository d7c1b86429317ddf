package producer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
)

// living is a process of a node: what it asks of the ledger ends with it.
type living struct {
	landlord
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

func (p *living) Lease(ctx context.Context, k ledger.StockKey, h ledger.Holder, ask ledger.Ask) (ledger.Lease, error) {
	if p.dead.Load() {
		return ledger.Lease{}, errDead
	}
	return p.landlord.Lease(ctx, k, h, ask)
}

func (p *living) Return(ctx context.Context, k ledger.StockKey, h ledger.Holder, seen ledger.Lease, keep int64) (ledger.Lease, error) {
	if p.dead.Load() {
		return ledger.Lease{}, errDead
	}
	return p.landlord.Return(ctx, k, h, seen, keep)
}

// shop is a node with a front that shares a stock, and its disk.
type shop struct {
	t      *testing.T
	name   string
	lord   landlord
	total  int64
	disk   *crashdisk.Disk
	random *rand.Rand
	pause  func(*rand.Rand) // between two claims of a user
	lives  int
}

// live takes claims for a while or, with finish, until it is told that nothing is
// left, and then ends in order or dies.
func (s *shop) live(finish bool) {
	process := &living{landlord: s.lord}
	leases := joined(s.t, process, s.name)
	f := openNode(s.t, s.name, s.disk, "/data", func(o *Options) { o.Snapshot, o.Leases = stocked(s.t, s.total), leases })
	stop := f.running()
	s.lives++
	ctx, end := context.WithCancel(context.Background())
	const users = 4
	claims := 50 + s.random.IntN(200)
	var claiming sync.WaitGroup
	for u := range users {
		random := rand.New(rand.NewPCG(s.random.Uint64(), 0))
		claiming.Go(func() {
			for i := 0; ctx.Err() == nil && (finish || i < claims/users); i++ {
				_, err := f.Claim(ctx, Request{Campaign: "spring", User: fmt.Sprint(s.name, s.lives, u, i)})
				if finish && errors.Is(err, &gift.Error{Code: gift.SoldOut}) {
					return
				}
				s.pause(random)
			}
		})
	}
	if !finish && s.random.IntN(3) > 0 {
		// It is killed: what is on its disk by then is what there is.
		for range s.random.IntN(claims / users) {
			s.pause(s.random)
		}
		process.dead.Store(true)
		s.disk = s.disk.Kill()
		end()
		claiming.Wait()
		stop()
		f.log.Close()
		if s.random.IntN(3) == 0 {
			s.giveUp()
		}
		return
	}
	claiming.Wait()
	end()
	stop()
	if err := f.log.Close(); err != nil {
		s.t.Error(err)
	}
	s.disk = s.disk.Kill()
}

// giveUp declares the node lost, and settles its lease by its log.
func (s *shop) giveUp() {
	if err := s.lord.Lose(context.Background(), s.name, "ana"); err != nil {
		s.t.Error(err)
	}
	if _, err := s.lord.Settle(context.Background(), cash, ledger.Holder{Node: s.name}, int64(len(s.claims()))); err != nil && !errors.Is(err, ledger.ErrNotFound) {
		s.t.Error(err)
	}
}

// claims reads what the node's log has.
func (s *shop) claims() (ids []gift.ClaimID) {
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: "/data", Node: s.name, Disk: s.disk, SegmentBytes: fallbacklog.MinSegment})
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	r := log.Reader(0, fallbacklog.Claimed)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			return ids
		}
		if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, rec.Claim.ID)
	}
}

// exactly has three fronts hand out one stock while they die, are given up and come
// back, and while gifts are refunded, and then hand out the rest. Every gift is given
// once: not one more, not one less.
func exactly(t *testing.T, total int64, lives int, open func(node string) landlord, pause func(*rand.Rand), heal func()) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	shops := make([]*shop, 3)
	var all sync.WaitGroup
	for i := range shops {
		s := &shop{t: t, name: string(rune('a' + i)), total: total, disk: crashdisk.New(seed), random: rand.New(rand.NewPCG(seed, uint64(i))), pause: pause}
		s.lord = open(s.name)
		shops[i] = s
		all.Go(func() {
			for range lives {
				s.live(false)
				if ids := s.claims(); len(ids) > 0 && s.random.IntN(2) == 0 {
					// Some of its claims come to nothing. One of each life: none comes twice.
					back := ledger.Refund{StockKey: cash, Claim: ids[len(ids)-1], Count: 1}
					if err := s.lord.Refund(context.Background(), []ledger.Refund{back}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	heal()
	given := func() (n int64) {
		for _, s := range shops {
			n += int64(len(s.claims()))
		}
		return n
	}
	pool, _, err := shops[0].lord.Leases(context.Background(), cash)
	if err != nil {
		t.Fatal(err)
	}
	there := total + pool.Refunded
	before := given()
	if before > there {
		t.Fatalf("%d were given of %d", before, there)
	}
	// One after the other: what a node sits on that is gone is given up.
	for _, s := range shops {
		s.giveUp()
	}
	for _, s := range shops {
		all.Go(func() { s.live(true) })
	}
	all.Wait()
	shops[0].live(true) // takes what the others gave back at their end
	if n := given(); n != there {
		t.Fatalf("%d were given of %d; %d before the end", n, there, before)
	}
	t.Logf("%d given, %d of them after the faults, %d refunded", there, there-before, pool.Refunded)
}

func TestExactlyTheStockIsGiven(t *testing.T) {
	for _, total := range []int64{7, 300, 2000} {
		synctest.Test(t, func(t *testing.T) {
			l := newLender()
			faults := []fault{works, works, works, works, works, works, fails, loses, lags, lags, hangs}
			l.set(func() fault { return faults[rand.IntN(len(faults))] })
			ctx, cancel := context.WithCancel(t.Context())
			var late sync.WaitGroup
			late.Go(func() { // calls that were cut off arrive at any time
				for ctx.Err() == nil {
					time.Sleep(300 * time.Millisecond)
					l.arrive()
				}
			})
			pause := func(r *rand.Rand) { time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) }
			exactly(t, total, 5, func(string) landlord { return l }, pause, func() {
				l.set(nil)
				cancel()
				late.Wait()
			})
		})
	}
}
