package queuetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
	"manna/queue"
)

// Node is what an engine is opened on.
type Node struct {
	Log  *fallbacklog.Log
	Disk disk.Disk // loses power together with the log's
	Dir  string    // the engine's own on Disk
}

// Engine is an engine to be put through the suite.
type Engine struct {
	// Open opens the engine. The suite opens it again after each restart, and on
	// what a power loss has left.
	Open func(ctx context.Context, n Node) (queue.Queue, error)
	// Exact: the engine knows what the log says. It never hands an order out that
	// is held, final, or deferred and not yet due, it counts exactly, and its
	// watermarks follow the order's last record even where Defer was not called.
	Exact bool
	// Queues is in how many queues the engine spreads a lane, if in several. First
	// deliveries then come in order of age about, not exactly.
	Queues int
	// Checks is how many runs the property makes; default 25. -rapid.checks asks for
	// another number.
	Checks int
}

// patience is how long a message that must come may take.
const patience = 20 * time.Second

// T is the part of testing.TB that a property test has too.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// world is a node with an engine on it, and the clients and partners around.
type world struct {
	t      T
	engine Engine
	prefix string // of partners' names: an engine elsewhere may remember others'
	disk   *crashdisk.Disk
	log    *fallbacklog.Log
	queue  queue.Queue
	lanes  map[string]queue.Lane
	users  int
	feeder *feeder              // of an engine that is fed
	last   fallbacklog.Position // of the last claim
}

func newWorld(t T, e Engine) *world {
	w := &world{t: t, engine: e, prefix: fmt.Sprintf("p%08x-", rand.Uint32()), disk: crashdisk.New(1)}
	// A test that fails leaves its node open.
	t.Cleanup(w.abandon)
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: "/data/log", Node: "a", Disk: unreserved{w.disk}, SegmentBytes: fallbacklog.MinSegment})
	w.must(err)
	w.log = log
	w.openQueue()
}

func (w *world) openQueue() {
	w.t.Helper()
	q, err := w.engine.Open(context.Background(), Node{Log: w.log, Disk: w.disk, Dir: "/data/lanes"})
	w.must(err)
	w.queue = q
	w.lanes = make(map[string]queue.Lane)
	if f, ok := q.(queue.Feedable); ok {
		w.feeder = startFeeder(w, f)
	}
}

// lane gives a partner's lane, opening it where it is not.
func (w *world) lane(partner string) queue.Lane {
	w.t.Helper()
	if w.lanes[partner] == nil {
		l, err := w.queue.Lane(context.Background(), w.prefix+partner)
		w.must(err)
		w.lanes[partner] = l
	}
	return w.lanes[partner]
}

// closeQueue ends the engine in good order.
func (w *world) closeQueue() {
	w.t.Helper()
	w.stopFeeder()
	w.must(w.queue.Close(context.Background()))
	w.queue = nil
}

func (w *world) close() {
	w.t.Helper()
	w.closeQueue()
	w.must(w.log.Close())
	w.log = nil
}

// restart ends everything in good order and opens it again.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

func (w *world) stopFeeder() {
	if w.feeder != nil {
		w.feeder.stop()
		w.feeder = nil
	}
}

// abandon ends whatever runs; nobody looks at what it writes.
func (w *world) abandon() {
	w.stopFeeder()
	if w.queue != nil {
		_ = w.queue.Close(context.Background())
	}
	if w.log != nil {
		_ = w.log.Close()
	}
	w.queue, w.log = nil, nil
}

// crash loses power and opens what is left: of what was not synced each part with
// the probability keep. What ran before runs out on the disk of before.
func (w *world) crash(keep float64) {
	w.t.Helper()
	left := w.disk.Crash(keep)
	w.abandon()
	w.disk = left
	w.open()
}

// kill ends the process and opens what it wrote.
func (w *world) kill() {
	w.t.Helper()
	left := w.disk.Kill()
	w.abandon()
	w.disk = left
	w.open()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

func (w *world) append(recs ...*fallbacklog.Record) {
	w.t.Helper()
	w.must(w.log.Append(context.Background(), recs...))
	for _, rec := range recs {
		if rec.Claim != nil {
			w.last = max(w.last, rec.At)
		}
	}
}

// newClaim makes a claim with an order for each partner named.
func (w *world) newClaim(partners ...string) *fallbacklog.Record {
	w.users++
	now := time.Now().UTC()
	user := fmt.Sprint("u", w.users)
	id := gift.NewCampaignID(w.prefix).ClaimID("rain", user, "")
	c := &gift.Claim{ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: now, DeliverBy: now.Add(time.Hour)}
	for i, p := range partners {
		item := fmt.Sprint("item-", i)
		c.Orders = append(c.Orders, gift.Order{ID: id.OrderID(item), Item: item, Partner: w.prefix + p, Quantity: 1, Amount: 5})
	}
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: now, Claim: c}
}

func (w *world) claim(partners ...string) *gift.Claim {
	w.t.Helper()
	rec := w.newClaim(partners...)
	w.append(rec)
	return rec.Claim
}

// claims makes n claims of one order each.
func (w *world) claims(n int, partner string) []gift.OrderID {
	w.t.Helper()
	ids := make([]gift.OrderID, 0, n)
	for len(ids) < n {
		var recs []*fallbacklog.Record
		for range min(n-len(ids), 500) {
			rec := w.newClaim(partner)
			recs = append(recs, rec)
			ids = append(ids, rec.Claim.Orders[0].ID)
		}
		w.append(recs...)
	}
	return ids
}

// outcome appends a record about an order that was received.
func (w *world) outcome(m *queue.Message, kind fallbacklog.Kind, e fallbacklog.Event) *fallbacklog.Record {
	w.t.Helper()
	e.Order, e.Claim, e.Campaign, e.Partner, e.Origin = m.Order.ID, m.Claim.ID, m.Claim.Campaign, m.Order.Partner, m.Origin
	rec := &fallbacklog.Record{Kind: kind, Event: &e}
	w.append(rec)
	return rec
}

func (w *world) grant(l queue.Lane, m *queue.Message) {
	w.t.Helper()
	w.outcome(m, fallbacklog.Granted, fallbacklog.Event{Attempts: m.Attempts + 1})
	w.must(l.Ack(context.Background(), m))
}

// retry defers a message, or leaves it in doubt, until due.
func (w *world) retry(l queue.Lane, m *queue.Message, kind fallbacklog.Kind, due time.Time) {
	w.t.Helper()
	began := time.Now().UTC().Truncate(0)
	w.outcome(m, kind, fallbacklog.Event{Attempts: m.Attempts + 1, Queries: m.Queries, Began: began, Due: due})
	m.Attempts, m.Began, m.InDoubt = m.Attempts+1, began, kind == fallbacklog.Unknown
	w.must(l.Defer(context.Background(), m, due))
}

// reissue puts an order into its lane again, as the reconciler does.
func (w *world) reissue(c *gift.Claim, o gift.Order, origin fallbacklog.Position) {
	w.t.Helper()
	m := &queue.Message{Claim: c, Order: o, Origin: origin}
	w.outcome(m, fallbacklog.Reissued, fallbacklog.Event{Run: "test"})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.must(w.queue.Send(ctx, m))
}

// receive waits for a message that must come.
func (w *world) receive(l queue.Lane) *queue.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := l.Receive(ctx)
	if err != nil {
		w.t.Fatalf("receive: %v", err)
	}
	return m
}

// tryReceive waits for a message that need not come.
func (w *world) tryReceive(l queue.Lane, d time.Duration) *queue.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	m, err := l.Receive(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		w.t.Fatalf("receive: %v", err)
	}
	return m
}

// inOrder checks that first deliveries came in order of age, as exactly as the
// engine promises it.
func (w *world) inOrder(what string, got, want []gift.OrderID) {
	w.t.Helper()
	if len(got) != len(want) {
		w.t.Fatalf("%s: %d messages, want %d", what, len(got), len(want))
	}
	turn := make(map[gift.OrderID]int, len(want))
	for i, id := range want {
		turn[id] = i
	}
	off := 0
	for i, id := range got {
		at, ok := turn[id]
		switch {
		case !ok:
			w.t.Fatalf("%s: message %d is order %v, which came before or never should", what, i, id)
		case at != i && w.engine.Queues <= 1:
			w.t.Fatalf("%s: message %d is order %v, want %v", what, i, id, want[i])
		}
		delete(turn, id)
		off += max(at-i, i-at)
	}
	// In no order at all they would be off by a third.
	if off > len(want)*len(want)/6 {
		w.t.Fatalf("%s: messages are %d places off their turn on average, of %d", what, off/len(want), len(want))
	}
}

func (w *world) story(id gift.OrderID) *fallbacklog.Story {
	w.t.Helper()
	s, err := w.log.Order(id)
	w.must(err)
	return s
}

// drain grants everything that is received until none of the orders is without a
// final outcome.
func (w *world) drain(partner string, orders ...gift.OrderID) {
	w.t.Helper()
	open := make(map[gift.OrderID]bool)
	for _, id := range orders {
		if !w.story(id).State.Final() {
			open[id] = true
		}
	}
	l := w.lane(partner)
	for len(open) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		m, err := l.Receive(ctx)
		cancel()
		if err != nil {
			for id := range open {
				w.t.Fatalf("%d orders are never received, among them %v, %v: %v", len(open), id, w.story(id).State, err)
			}
		}
		if w.story(m.Order.ID).State.Final() {
			w.must(l.Ack(context.Background(), m))
			continue
		}
		w.grant(l, m)
		delete(open, m.Order.ID)
	}
}

// status asks a lane once it has been fed what was claimed.
func (w *world) status(l queue.Lane) queue.Status {
	w.t.Helper()
	if w.feeder != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.must(w.feeder.reach(ctx, w.last))
	}
	s, err := l.Status(context.Background())
	w.must(err)
	return s
}
