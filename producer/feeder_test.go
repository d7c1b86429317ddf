package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/queue"
)

// fileQueue is an engine that keeps what it is fed in a file, and fails by chance:
// before anything was taken, half way, or after everything was.
type fileQueue struct {
	path string

	mu     sync.Mutex
	chance *rand.Rand // nil: it never fails
	fed    chan struct{}
}

type fedOrder struct {
	Order  gift.OrderID
	Lane   string
	Origin fallbacklog.Position
	Claim  []byte
}

var errQueue = errors.New("broker is down")

func (q *fileQueue) Feed(_ context.Context, msgs []*queue.Message) (confirmed func() error) {
	err := q.take(msgs)
	return func() error { return err }
}

func (q *fileQueue) take(msgs []*queue.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken, err := len(msgs), error(nil)
	if q.chance != nil {
		switch q.chance.IntN(6) {
		case 0:
			taken, err = 0, errQueue
		case 1:
			taken, err = len(msgs)/2, errQueue
		case 2:
			err = errQueue
		}
	}
	f, openErr := os.OpenFile(q.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if openErr != nil {
		return openErr
	}
	defer f.Close()
	for _, m := range msgs[:taken] {
		line, _ := json.Marshal(fedOrder{m.Order.ID, m.Order.Partner, m.Origin, []byte(m.Encoded)})
		if _, err := f.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	if err == nil {
		err = f.Sync()
	}
	select {
	case q.fed <- struct{}{}:
	default:
	}
	return err
}

// orders reads the file.
func (q *fileQueue) orders(t *testing.T) []fedOrder {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	f, err := os.Open(q.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []fedOrder
	for d := json.NewDecoder(f); d.More(); {
		var o fedOrder
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// feedTestBatch is the most that is handed over at once: claims have up to two orders.
const feedTestBatch = 8

func startFeeder(t *testing.T, f *fixture, q *fileQueue) (feeder *Feeder, stop func()) {
	t.Helper()
	feeder, cancel, done := runFeeder(t, FeederOptions{Log: f.log, Queue: q, Name: "file", Batch: feedTestBatch - 1, MarkEvery: 2 * time.Millisecond, RetryMin: time.Microsecond, RetryMax: time.Millisecond})
	return feeder, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("feeder: %v", err)
		}
	}
}

// runFeeder runs a feeder until it is cancelled, and then says on done how it ended.
func runFeeder(t *testing.T, opts FeederOptions) (feeder *Feeder, cancel context.CancelFunc, done <-chan error) {
	t.Helper()
	feeder, err := NewFeeder(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- feeder.Run(ctx) }()
	return feeder, cancel, ended
}

// has waits until the queue has n different orders.
func (q *fileQueue) has(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		seen := map[gift.OrderID]bool{}
		for _, o := range q.orders(t) {
			seen[o.Order] = true
		}
		if len(seen) >= n {
			return
		}
		select {
		case <-q.fed:
		case <-deadline:
			t.Fatalf("the queue has %d orders, want %d", len(seen), n)
		}
	}
}

// A queue that is well has the orders as the log has them; of one that fails a batch, the
// batch behind it may be there first.
func TestFeederLosesNothingAndKeepsTheOrder(t *testing.T) {
	t.Run("well", func(t *testing.T) { feederKeepsTheOrder(t, nil, 0) })
	t.Run("failing", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		feederKeepsTheOrder(t, rand.New(rand.NewPCG(seed, 0)), feedTestBatch)
	})
}

// feederKeepsTheOrder feeds a queue that fails by chance; apart is how far an order may be
// from its place.
func feederKeepsTheOrder(t *testing.T, chance *rand.Rand, apart int) {
	f, d := crashing(t)
	q := &fileQueue{path: filepath.Join(t.TempDir(), "queue"), chance: chance, fed: make(chan struct{}, 1)}
	const rounds, each = 5, 60
	for round := range rounds {
		_, stop := startFeeder(t, f, q)
		for i := range each {
			f.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: user(round*each + i)})
			f.claim(Request{Campaign: "spring", User: user(round*each + i)})
			if round%2 == 1 && i == each/2 {
				// The process is killed in the middle: the disk is copied while the
				// feeder runs, and what it goes on to do does not count.
				killed := d.Kill()
				stop()
				d = killed
				f = openFixtureOn(t, d, f.dir)
				_, stop = startFeeder(t, f, q)
			}
		}
		q.has(t, ordersIn(f))
		stop()
		f = openFixtureOn(t, d.Kill(), f.dir)
		d = f.disk.(*crashdisk.Disk)
	}

	// Whatever came twice, the first of each came in the order of the log.
	expected := f.records(fallbacklog.Claimed)
	first := map[string][]fedOrder{}
	seen := map[gift.OrderID]bool{}
	for _, o := range q.orders(t) {
		if !seen[o.Order] {
			seen[o.Order] = true
			first[o.Lane] = append(first[o.Lane], o)
		}
	}
	i, lane := 0, first["midas"]
	for _, rec := range expected {
		for _, o := range rec.Claim.Orders {
			at := slices.IndexFunc(lane, func(fed fedOrder) bool { return fed.Order == o.ID })
			if at < 0 || at > i+apart || at < i-apart || lane[at].Origin != rec.At {
				t.Fatalf("order %d of the log is number %d of the lane, want at most %d between", i, at, apart)
			}
			if claim := fallbacklog.AppendClaim(nil, rec.Claim); !bytes.Equal(lane[at].Claim, claim) {
				t.Fatalf("order %d is fed with the claim %q, want %q", i, lane[at].Claim, claim)
			}
			i++
		}
	}
	want(t, "orders", len(seen), i)
}

func ordersIn(f *fixture) int {
	n := 0
	for _, rec := range f.records(fallbacklog.Claimed) {
		n += len(rec.Claim.Orders)
	}
	return n
}

func TestFeederResumesAtItsWatermark(t *testing.T) {
	f := openFixture(t)
	q := &fileQueue{path: filepath.Join(t.TempDir(), "queue"), fed: make(chan struct{}, 1)}
	feeder, stop := startFeeder(t, f, q)
	for i := range 20 {
		f.claim(Request{Campaign: "spring", User: user(i)})
	}
	q.has(t, 20)
	stop()
	sent := f.records(fallbacklog.Sent)
	if len(sent) == 0 || sent[len(sent)-1].Sent.Through != feeder.Through() {
		t.Fatalf("last watermark %+v, want %v", sent, feeder.Through())
	}
	f = f.reopen()
	feeder, stop = startFeeder(t, f, q)
	if feeder.Through() == 0 {
		t.Error("the feeder begins anew")
	}
	f.claim(Request{Campaign: "spring", User: "one more"})
	q.has(t, 21)
	stop()
	want(t, "orders fed", len(q.orders(t)), 21)
}

func TestFeederMarksWhenNothingMoreComes(t *testing.T) {
	f := openFixture(t)
	q := &fileQueue{path: filepath.Join(t.TempDir(), "queue"), fed: make(chan struct{}, 1)}
	_, stop := startFeeder(t, f, q)
	f.claim(Request{Campaign: "spring", User: "u"})
	f.claim(Request{Campaign: "spring", User: "v"})
	reader := f.log.Reader(0, fallbacklog.Sent)
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	through := f.records(fallbacklog.Claimed)[1].At
	for {
		rec, err := reader.Next(ctx)
		if err != nil {
			t.Fatalf("no watermark behind %v: %v", through, err)
		}
		if rec.Sent.Through > through {
			break
		}
	}
	stop()
	// A log whose only news are its own watermarks is not marked again.
	if n := len(f.records(fallbacklog.Sent)); n > 2 {
		t.Errorf("%d watermarks for two claims", n)
	}
}

func TestFeederEndsWithTheLog(t *testing.T) {
	f := openFixture(t)
	feeder, err := NewFeeder(FeederOptions{Log: f.log, Queue: &fileQueue{}, Name: "file"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- feeder.Run(context.Background()) }()
	f.log.Close()
	if err := <-done; !errors.Is(err, fallbacklog.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := NewFeeder(FeederOptions{}); err == nil {
		t.Error("a feeder of nothing: no error")
	}
}

// picky is a queue that can never take some orders.
type picky struct {
	*broker
	never map[gift.OrderID]bool
	took  func() // is called when it has taken a batch, before it says so
}

func (p *picky) Feed(ctx context.Context, msgs []*queue.Message) (confirmed func() error) {
	for _, m := range msgs {
		if p.never[m.Order.ID] {
			return func() error { return &queue.RefusedError{Order: m.Order.ID, Err: errors.New("too large")} }
		}
	}
	return func() error {
		defer p.took()
		return p.broker.take(ctx, msgs)
	}
}

func TestFeederParksWhatTheQueueCanNeverTake(t *testing.T) {
	f, d := crashing(t)
	var killed *crashdisk.Disk
	q := &picky{newBroker(), map[gift.OrderID]bool{}, func() { killed = d.Kill() }}
	var orders []gift.Order
	for i := range 6 {
		orders = append(orders, f.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: user(i)}).Claim.Orders...)
	}
	for _, i := range []int{0, 5, 10} { // and takes the last, after which it is killed
		q.never[orders[i].ID] = true
	}
	feed := func(name string) {
		t.Helper()
		ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
		defer end()
		feeder, cancel, done := runFeeder(t, FeederOptions{Log: f.log, Queue: q, Name: name, MarkEvery: time.Hour})
		if err := feeder.Wait(ctx, f.records(fallbacklog.Claimed)[5].At); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d = killed
		f = openFixtureOn(t, d, f.dir)
	}
	feed("picky")
	feed("again") // from the beginning, as with a watermark that was not written
	parked := f.records(fallbacklog.Parked)
	want(t, "parked", len(parked), 3)
	for _, rec := range parked {
		if !q.never[rec.Event.Order] || rec.Event.Code != "queue_refused" || rec.Event.Reason != "too large" || rec.Event.Partner != "midas" {
			t.Errorf("parked: %+v", rec.Event)
		}
	}
	for _, o := range orders {
		want(t, "fed", q.got(o.ID), !q.never[o.ID])
	}
}

// choosy is a queue that refuses a partner until it is mended.
type choosy struct {
	*broker
	refuses atomic.Value // the partner
	calls   atomic.Int64
}

func (c *choosy) Feed(ctx context.Context, msgs []*queue.Message) (confirmed func() error) {
	c.calls.Add(1)
	refuses := c.refuses.Load().(string)
	for _, m := range msgs {
		if m.Order.Partner == refuses {
			return func() error {
				return fmt.Errorf("2 lanes: %w", &queue.LaneRefusedError{Partner: refuses, Err: errors.New("too few queues: updateTopic")})
			}
		}
	}
	return c.broker.Feed(ctx, msgs)
}

// The partner's orders are parked, those of all others go on, and nothing is passed
// that is in neither the queue nor the log's parking.
func TestFeederGoesOnWithoutAPartnerThatTheQueueRefuses(t *testing.T) {
	f := openFixture(t)
	q := &choosy{broker: newBroker()}
	q.refuses.Store("nova")
	write := func(rec *fallbacklog.Record) {
		t.Helper()
		if err := f.log.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	order := func(user, partner string) gift.Order {
		t.Helper()
		id := gift.NewCampaignID("spring").ClaimID("", user, partner)
		c := &gift.Claim{ID: id, Campaign: "spring", User: user, Gift: "vip", ClaimedAt: opens, DeliverBy: opens.Add(time.Hour),
			Orders: []gift.Order{{ID: id.OrderID("item"), Item: "item", Partner: partner, Quantity: 1}}}
		write(&fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: c})
		return c.Orders[0]
	}
	var refused, taken []gift.Order
	for i := range 40 {
		taken = append(taken, order(user(i), "iris"))
		refused = append(refused, order(user(i), "nova"))
	}
	// One of them has come further before a crash: it is let alone.
	further := refused[0]
	write(&fallbacklog.Record{Kind: fallbacklog.Granted, Event: &fallbacklog.Event{Order: further.ID, Partner: "nova", Attempts: 1}})
	feeder, err := NewFeeder(FeederOptions{Log: f.log, Queue: q, Name: "choosy", RetryMin: time.Hour, RetryMax: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- feeder.Run(ctx) }()
	wait := func() {
		t.Helper()
		claims := f.records(fallbacklog.Claimed)
		if err := feeder.Wait(ctx, claims[len(claims)-1].At); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	parked := make(map[gift.OrderID]bool)
	for _, rec := range f.records(fallbacklog.Parked) {
		parked[rec.Event.Order] = true
		if rec.Event.Code != "queue_refused" || rec.Event.Reason != "too few queues: updateTopic" || rec.Event.Partner != "nova" || rec.Event.Origin == 0 {
			t.Errorf("parked: %+v", rec.Event)
		}
	}
	for _, o := range taken {
		want(t, "the queue has one of another partner", q.got(o.ID), true)
	}
	for _, o := range refused {
		want(t, "parked", parked[o.ID], o.ID != further.ID)
		want(t, "the queue has one that it refused", q.got(o.ID), false)
	}
	want(t, "orders parked", feeder.Parked(), int64(len(refused)-1))
	// Mended, its next orders are fed.
	q.refuses.Store("")
	last := order("later", "nova")
	wait()
	want(t, "the queue has one that came after", q.got(last.ID), true)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// deafQueue takes nothing until it is told to.
type deafQueue struct {
	asked chan struct{}
	take  chan struct{}
}

func (q *deafQueue) Feed(ctx context.Context, _ []*queue.Message) (confirmed func() error) {
	q.asked <- struct{}{}
	return func() error {
		select {
		case <-q.take:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestFeederTellsHowFarItIsBehind(t *testing.T) {
	f := openFixture(t)
	q := &deafQueue{make(chan struct{}), make(chan struct{})}
	feeder, cancel, done := runFeeder(t, FeederOptions{Log: f.log, Queue: q, Name: "deaf", Now: func() time.Time { return opens.Add(time.Minute) }})
	want(t, "behind with nothing to feed", feeder.Behind(), 0)
	f.clock.at.Store(opens.UnixNano())
	f.claim(Request{Campaign: "spring", User: "u"})
	<-q.asked
	want(t, "behind with a claim of a minute ago", feeder.Behind(), time.Minute)
	q.take <- struct{}{}
	for feeder.Through() == 0 || feeder.Behind() > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// measured is a queue that fails for a while, and notes how much it was given at once
// and how far the feeder was then.
type measured struct {
	fails   int
	through func() fallbacklog.Position
	given   []int
	passed  []fallbacklog.Position
	done    func()
	left    int
}

func (q *measured) Feed(_ context.Context, msgs []*queue.Message) (confirmed func() error) {
	err := q.take(msgs)
	return func() error { return err }
}

func (q *measured) take(msgs []*queue.Message) error {
	q.given, q.passed = append(q.given, len(msgs)), append(q.passed, q.through())
	if q.fails--; q.fails >= 0 {
		return errors.New("full")
	}
	if q.left -= len(msgs); q.left == 0 {
		q.done()
	}
	return nil
}

func TestFeederGivesAFailingQueueLessAtOnce(t *testing.T) {
	f := openFixture(t)
	for i := range 7 {
		f.claim(Request{Campaign: "spring", User: user(i)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := &measured{fails: 2, done: cancel, left: 7}
	feeder, err := NewFeeder(FeederOptions{Log: f.log, Queue: q, Name: "measured", Batch: 7, RetryMin: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	q.through = feeder.Through
	if err := feeder.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(q.given, []int{7, 3, 1, 2, 4}) {
		t.Errorf("it was given %v at once", q.given)
	}
	recs := f.records(fallbacklog.Claimed)
	if want := []fallbacklog.Position{0, 0, 0, recs[1].At, recs[3].At}; !slices.Equal(q.passed, want) {
		t.Errorf("the feeder was through %v, want %v", q.passed, want)
	}
}
