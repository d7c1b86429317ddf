package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/queue"
	"manna/queue/embedded"
)

const patience = 20 * time.Second

// node is a log with a queue on a disk that can lose power.
type node struct {
	t     *testing.T
	disk  *crashdisk.Disk
	log   *fallbacklog.Log
	queue *embedded.Queue
	said  said
	users int
}

// said is what a logger wrote.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buf.Reset()
	return s.buf.String()
}

func newNode(t *testing.T, o embedded.Options) *node {
	t.Helper()
	n := &node{t: t, disk: crashdisk.New(7)}
	n.open(o)
	t.Cleanup(func() { n.end() })
	return n
}

func (n *node) open(o embedded.Options) {
	n.t.Helper()
	n.openLog()
	n.must(n.openQueue(o))
}

func (n *node) openLog() {
	n.t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: "/data/log", Node: "a", Disk: n.disk})
	n.must(err)
	n.log = log
}

func (n *node) openQueue(o embedded.Options) error {
	o.Log, o.Dir, o.Disk = n.log, "/data/lanes", n.disk
	o.Logger = slog.New(slog.NewTextHandler(&n.said, nil))
	q, err := embedded.Open(context.Background(), o)
	n.queue = q
	return err
}

// end closes what is open, whatever it says.
func (n *node) end() {
	if n.queue != nil {
		_ = n.queue.Close(context.Background())
	}
	if n.log != nil {
		_ = n.log.Close()
	}
	n.queue, n.log = nil, nil
}

// replace ends the node and goes on with another disk.
func (n *node) replace(d *crashdisk.Disk) {
	n.end()
	n.disk = d
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) lane(partner string) queue.Lane {
	n.t.Helper()
	l, err := n.queue.Lane(context.Background(), partner)
	n.must(err)
	return l
}

func (n *node) claim(partners ...string) *fallbacklog.Record {
	n.t.Helper()
	n.users++
	id := gift.NewCampaignID("spring").ClaimID("rain", fmt.Sprint("u", n.users), "")
	c := &gift.Claim{ID: id, Campaign: "spring", User: fmt.Sprint("u", n.users), ClaimedAt: time.Now().UTC()}
	for i, p := range partners {
		item := fmt.Sprint("item-", i)
		c.Orders = append(c.Orders, gift.Order{ID: id.OrderID(item), Item: item, Partner: p})
	}
	rec := &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: c}
	n.must(n.log.Append(context.Background(), rec))
	return rec
}

func (n *node) record(m *queue.Message, kind fallbacklog.Kind, due time.Time) *fallbacklog.Record {
	n.t.Helper()
	rec := &fallbacklog.Record{Kind: kind, Event: &fallbacklog.Event{
		Order: m.Order.ID, Claim: m.Claim.ID, Partner: m.Order.Partner, Origin: m.Origin, Attempts: m.Attempts + 1, Due: due,
	}}
	n.must(n.log.Append(context.Background(), rec))
	return rec
}

func (n *node) put(l queue.Lane, m *queue.Message, kind fallbacklog.Kind, due time.Time) *fallbacklog.Record {
	n.t.Helper()
	rec := n.record(m, kind, due)
	n.must(l.Defer(context.Background(), m, due))
	return rec
}

func (n *node) grant(l queue.Lane, m *queue.Message) {
	n.t.Helper()
	n.record(m, fallbacklog.Granted, time.Time{})
	n.must(l.Ack(context.Background(), m))
}

func (n *node) receive(l queue.Lane) *queue.Message {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := l.Receive(ctx)
	n.must(err)
	return m
}

func (n *node) nothing(l queue.Lane) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if m, err := l.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		n.t.Fatalf("received %+v, %v; want nothing", m, err)
	}
}

func (n *node) status(l queue.Lane) queue.Status {
	n.t.Helper()
	s, err := l.Status(context.Background())
	n.must(err)
	return s
}

func TestAFullScheduleHoldsFreshOrdersUp(t *testing.T) {
	n := newNode(t, embedded.Options{MaxDeferred: 3})
	l := n.lane("midas")
	for range 600 {
		n.claim("midas")
	}
	far := time.Now().Add(time.Hour)
	first := n.receive(l)
	n.put(l, first, fallbacklog.Deferred, far)
	n.put(l, n.receive(l), fallbacklog.Deferred, far)
	held := n.receive(l)
	n.nothing(l) // a third deferral must find room
	n.put(l, held, fallbacklog.Deferred, far)
	n.nothing(l)

	// A reissue is never refused; what it brings back makes room when it ends.
	n.record(first, fallbacklog.Reissued, time.Time{})
	n.must(n.queue.Send(context.Background(), first))
	again := n.receive(l)
	if again.Order.ID != first.Order.ID {
		t.Fatalf("received order %v, want the reissued %v", again.Order.ID, first.Order.ID)
	}
	n.nothing(l)
	n.grant(l, again)
	n.nothing(l) // its old entry is still there and counts until it is due
	n.record(held, fallbacklog.Reissued, time.Time{})
	n.must(n.queue.Send(context.Background(), held))
	n.grant(l, n.receive(l))
	if s := n.status(l); s.Deferred != 3 || s.Backlog != 597 {
		t.Fatalf("status %+v, want 3 deferred and a backlog of 597", s)
	}
}

func TestAWaitingReceiverGetsTheRoomThatIsMade(t *testing.T) {
	n := newNode(t, embedded.Options{MaxDeferred: 1})
	l := n.lane("midas")
	n.claim("midas")
	next := n.claim("midas")
	m := n.receive(l)
	got := make(chan *queue.Message)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		m, _ := l.Receive(ctx)
		got <- m
	}()
	n.record(m, fallbacklog.Granted, time.Time{})
	n.status(l)
	n.nothing(l)
	n.must(l.Ack(context.Background(), m))
	if m := <-got; m == nil || m.Order.ID != next.Claim.Orders[0].ID {
		t.Fatalf("received %+v, want order %v", m, next.Claim.Orders[0].ID)
	}
}

func TestDeferWithoutARecordKeepsTheMessage(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	n.claim("midas", "midas")
	a, b := n.receive(l), n.receive(l)
	n.put(l, b, fallbacklog.Deferred, time.Now())
	b = n.receive(l)
	due := time.Now().Add(50 * time.Millisecond)
	a.Queries = 3
	n.must(l.Defer(context.Background(), a, due))
	n.must(l.Defer(context.Background(), b, due))
	if s := n.status(l); s.Deferred != 2 || s.Held != 0 || s.Oldest.IsZero() || s.OldestDue.IsZero() {
		t.Fatalf("status %+v, want both deferred and covered", s)
	}
	for range 2 {
		m := n.receive(l)
		if time.Now().Before(due) {
			t.Fatalf("order %v comes before it is due", m.Order.ID)
		}
		if m.Fresh || m.Order.ID == a.Order.ID && m.Queries != 3 {
			t.Fatalf("got %+v", m)
		}
		n.must(l.Defer(context.Background(), m, time.Now().Add(time.Hour)))
	}
	// A reissue takes the place of what waits in memory, and so does a restart.
	n.record(a, fallbacklog.Reissued, time.Time{})
	n.must(n.queue.Send(context.Background(), a))
	if m := n.receive(l); m.Order.ID != a.Order.ID {
		t.Fatalf("received order %v, want %v", m.Order.ID, a.Order.ID)
	}
	n.nothing(l)
	n.replace(n.disk.Kill())
	n.open(embedded.Options{})
	l = n.lane("midas")
	n.grant(l, n.receive(l))
	n.grant(l, n.receive(l))
	n.nothing(l)
}

func TestOnlyAHeldMessageIsLetGo(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l, other := n.lane("midas"), n.lane("iris")
	n.claim("midas")
	m := n.receive(l)
	if err := other.Ack(context.Background(), m); err == nil {
		t.Error("another lane's message was acknowledged")
	}
	n.grant(l, m)
	if err := l.Ack(context.Background(), m); err == nil {
		t.Error("a message was acknowledged twice")
	}
	if err := l.Defer(context.Background(), m, time.Now()); err == nil {
		t.Error("a message was deferred after it had been acknowledged")
	}
}

func TestSendWantsARecord(t *testing.T) {
	n := newNode(t, embedded.Options{})
	rec := n.claim("midas")
	m := &queue.Message{Claim: rec.Claim, Order: rec.Claim.Orders[0], Origin: rec.At}
	if err := n.queue.Send(context.Background(), m); err == nil || !strings.Contains(err.Error(), m.Order.ID.String()) {
		t.Fatalf("Send without a reissued record: %v, want an error that names the order", err)
	}
	// A lane that is not open yet finds it in the log.
	n.record(m, fallbacklog.Reissued, time.Time{})
	n.must(n.queue.Send(context.Background(), m))
	l := n.lane("midas")
	if got := n.receive(l); got.Fresh {
		t.Fatal("a reissued order is called fresh")
	}
	n.nothing(l)
}

// The outcome's record may be there a while before Defer is called.
func TestAnOutcomeOfAHeldOrderIsCovered(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	n.claim("midas")
	m := n.receive(l)
	due := time.Now().Add(time.Minute)
	n.record(m, fallbacklog.Deferred, due)
	if s := n.status(l); s.OldestDue.IsZero() || s.OldestDue.After(due) || s.Held != 1 {
		t.Fatalf("status %+v does not cover an order due at %v", s, due)
	}
}

func TestACheckpointThatWasWrittenIsUsed(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	for range 10 {
		n.claim("midas")
		n.grant(l, n.receive(l))
	}
	n.must(l.Close())
	if err := n.log.Append(context.Background(), &fallbacklog.Record{Kind: fallbacklog.Sent, Sent: &fallbacklog.Watermark{Queue: "x"}}); err != nil {
		t.Fatal(err)
	}
	n.replace(n.disk.Crash(0))
	n.said.take()
	n.open(embedded.Options{})
	l = n.lane("midas")
	if s := n.status(l); s.Backlog != 0 {
		t.Errorf("status %+v, want no backlog", s)
	}
	if said := n.said.take(); said != "" {
		t.Errorf("a lane with a good checkpoint says %q", said)
	}
}

func TestALaneWithoutAGoodCheckpointReadsTheLog(t *testing.T) {
	path := "/data/lanes/midas.lane"
	for name, spoil := range map[string]func(*node) error{
		"missing":   func(n *node) error { return n.disk.Remove(path) },
		"damaged":   func(n *node) error { return n.disk.FlipBit(path, 20, 3) },
		"cut":       func(n *node) error { return n.disk.WriteFile(path, []byte("MANNALAN")) },
		"another's": func(n *node) error { return n.disk.WriteFile(path, foreign(n.t)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, embedded.Options{})
			l := n.lane("midas")
			due := time.Now().Add(100 * time.Millisecond)
			want := map[gift.OrderID]bool{}
			for i := range 30 {
				n.claim("midas")
				m := n.receive(l)
				switch i % 3 {
				case 0:
					n.grant(l, m)
				case 1:
					n.put(l, m, fallbacklog.Deferred, due)
					want[m.Order.ID] = true
				case 2: // left held
					want[m.Order.ID] = true
				}
			}
			n.end()
			n.must(spoil(n))
			n.said.take()
			n.open(embedded.Options{})
			l = n.lane("midas")
			if said := n.said.take(); !strings.Contains(said, "reading the log from its start") || !strings.Contains(said, "lane=midas") {
				t.Errorf("the log says %q, want that the lane is read from the log's start", said)
			}
			for len(want) > 0 {
				m := n.receive(l)
				if !want[m.Order.ID] {
					t.Fatalf("order %v is received, and is settled or was received before", m.Order.ID)
				}
				if m.Attempts > 0 && time.Now().Before(due) {
					t.Fatalf("order %v comes before it is due", m.Order.ID)
				}
				delete(want, m.Order.ID)
				n.grant(l, m)
			}
			n.nothing(l)
		})
	}
}

// foreign gives the checkpoint of a lane that follows another, shorter log.
func foreign(t *testing.T) []byte {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	for range 5 {
		n.claim("midas")
		n.grant(l, n.receive(l))
	}
	n.end()
	b, err := n.disk.ReadFile("/data/lanes/midas.lane")
	n.must(err)
	return b
}

func TestOpenRefusesALogThatEndsTooSoon(t *testing.T) {
	n := newNode(t, embedded.Options{})
	before := n.disk.Kill()
	l := n.lane("midas")
	for range 10 {
		n.claim("midas")
		n.grant(l, n.receive(l))
	}
	n.end()
	b, err := n.disk.ReadFile("/data/lanes/midas.lane")
	n.must(err)
	n.replace(before)
	n.must(n.disk.WriteFile("/data/lanes/midas.lane", b))
	n.openLog()
	err = n.openQueue(embedded.Options{})
	if err == nil || !strings.Contains(err.Error(), "lane midas") || !strings.Contains(err.Error(), "segments are missing") {
		t.Fatalf("Open over a log that ends too soon: %v", err)
	}
	n.queue = nil
}

// Damage is told to whoever receives, each time, and what lies behind it is not
// skipped.
func TestADamagedRecordIsLoud(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	n.claim("midas")
	rec := n.put(l, n.receive(l), fallbacklog.Deferred, time.Now().Add(20*time.Millisecond))
	n.must(n.disk.FlipBit(fmt.Sprintf("/data/log/%08d.seg", rec.At.Segment()), int64(rec.At.Offset())+12, 1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 2 {
		var corrupt *fallbacklog.CorruptError
		if m, err := l.Receive(ctx); !errors.As(err, &corrupt) {
			t.Fatalf("received %+v, %v; want a CorruptError", m, err)
		}
	}
	if s := n.status(l); s.Deferred != 1 || s.OldestDue.IsZero() {
		t.Fatalf("status %+v, want the order still deferred", s)
	}
	n.must(n.disk.FlipBit(fmt.Sprintf("/data/log/%08d.seg", rec.At.Segment()), int64(rec.At.Offset())+12, 1))
	n.grant(l, n.receive(l))
}

func TestALogThatEndsEndsTheLanes(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	got := make(chan error)
	go func() {
		_, err := l.Receive(context.Background())
		got <- err
	}()
	n.must(n.log.Close())
	if err := <-got; !errors.Is(err, fallbacklog.ErrClosed) {
		t.Fatalf("a receiver over a closed log gets %v, want ErrClosed", err)
	}
	if _, err := l.Status(context.Background()); err != nil && !errors.Is(err, fallbacklog.ErrClosed) {
		t.Fatalf("status over a closed log: %v", err)
	}
}

// Whoever comes late, with a record that no lane will read, is told at once.
func TestAClosedQueueKeepsNobodyWaiting(t *testing.T) {
	n := newNode(t, embedded.Options{})
	l := n.lane("midas")
	n.claim("midas")
	m := n.receive(l)
	n.must(n.queue.Close(context.Background()))
	n.must(n.queue.Close(context.Background()))
	n.record(m, fallbacklog.Deferred, time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, receive := l.Receive(ctx)
	_, status := l.Status(ctx)
	for name, err := range map[string]error{
		"Receive": receive, "Status": status, "Defer": l.Defer(ctx, m, time.Now()), "Ack": l.Ack(ctx, m), "Send": n.queue.Send(ctx, m),
	} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func TestLaneRefusesANameThatIsNone(t *testing.T) {
	n := newNode(t, embedded.Options{})
	for _, name := range []string{"", "../midas", "a/b", ".hidden"} {
		if _, err := n.queue.Lane(context.Background(), name); err == nil {
			t.Errorf("a lane was opened for %q", name)
		}
	}
}

func TestMetricsTellTheLanes(t *testing.T) {
	registry := prometheus.NewRegistry()
	n := newNode(t, embedded.Options{Metrics: registry})
	l := n.lane("midas")
	for range 5 {
		n.claim("midas")
	}
	n.receive(l)
	n.put(l, n.receive(l), fallbacklog.Deferred, time.Now().Add(time.Hour))
	n.status(l)
	families, err := registry.Gather()
	n.must(err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()+"/"+m.Label[0].GetValue()] = m.Gauge.GetValue()
		}
	}
	want := map[string]float64{"manna_lane_backlog/midas": 3, "manna_lane_deferred/midas": 1, "manna_lane_held/midas": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	n.must(n.queue.Close(context.Background()))
	if families, err := registry.Gather(); err != nil || len(families) > 0 {
		t.Fatalf("a closed queue leaves %v, %v", families, err)
	}
}
