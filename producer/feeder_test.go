package producer

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
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
}

var errQueue = errors.New("broker is down")

func (q *fileQueue) Feed(_ context.Context, msgs []*queue.Message) error {
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
		line, _ := json.Marshal(fedOrder{m.Order.ID, m.Order.Partner, m.Origin})
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

func startFeeder(t *testing.T, f *fixture, q *fileQueue) (feeder *Feeder, stop func()) {
	t.Helper()
	feeder, err := NewFeeder(FeederOptions{Log: f.log, Queue: q, Name: "file", Batch: 7, MarkEvery: 2 * time.Millisecond, RetryMin: time.Microsecond, RetryMax: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- feeder.Run(ctx) }()
	return feeder, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("feeder: %v", err)
		}
	}
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

func TestFeederLosesNothingAndKeepsTheOrder(t *testing.T) {
	f, d := crashing(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	q := &fileQueue{path: filepath.Join(t.TempDir(), "queue"), chance: rand.New(rand.NewPCG(seed, 0)), fed: make(chan struct{}, 1)}
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
	i := 0
	for _, rec := range expected {
		for _, o := range rec.Claim.Orders {
			if i >= len(first["midas"]) || first["midas"][i].Order != o.ID || first["midas"][i].Origin != rec.At {
				t.Fatalf("order %d of the log is not number %d of the lane", i, i)
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
