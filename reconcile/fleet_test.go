package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/directory"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
	"manna/ledger/sqlite"
	"manna/queue"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// fedName is the queue's in the tests' `sent` records.
const fedName = "broker"

// machine is a node with a log of its own.
type machine struct {
	name string
	skew time.Duration // of its clock
	log  *fallbacklog.Log
	fed  fallbacklog.Position
	rec  *Reconciler // nil: it has another role
}

// fleet is a cluster: nodes whose logs are archived in one bucket, a broker and a
// ledger that all share, all by one clock that the test moves. The first node
// reconciles.
type fleet struct {
	t        tester
	at       time.Time // zero: the real one
	disk     *crashdisk.Disk
	nodes    map[string]*machine
	bucket   *signalling
	archive  *fallbacklog.Archive
	registry *nodeList
	broker   *broker
	dir      string         // of the ledger
	ledger   *sqlite.Ledger // nil where the test has a history of its own
	runs     Runs
	runner   *machine
	said     *lines

	mu      sync.Mutex // guards weighed
	weighed []gift.ClaimID
}

// newFleet makes one that begins at ten, with a real ledger.
func newFleet(t tester, names ...string) *fleet { return newFleetAt(t, ten.From, names...) }

func newFleetAt(t tester, at time.Time, names ...string) *fleet {
	f := &fleet{t: t, at: at}
	var err error
	f.dir, err = os.MkdirTemp("", "fleet")
	f.must(err)
	f.ledger, err = sqlite.Open(context.Background(), sqlite.Options{Dir: f.dir, Node: "ledger", Now: f.now})
	f.must(err)
	f.runs = f.ledger
	f.begin(names)
	return f
}

// newFleetWith makes one with a history that costs less.
func newFleetWith(t tester, runs Runs, names ...string) *fleet {
	f := &fleet{t: t, at: ten.From, runs: runs}
	f.begin(names)
	return f
}

func (f *fleet) begin(names []string) {
	f.disk, f.nodes, f.registry, f.said = crashdisk.New(1), map[string]*machine{}, &nodeList{}, &lines{}
	f.broker = &broker{fleet: f}
	f.bucket = &signalling{Bucket: directory.New(f.disk, "archive"), wrote: make(chan struct{}, 1)}
	var err error
	f.archive, err = fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: f.bucket, Cache: "cache", Disk: f.disk})
	f.must(err)
	for _, name := range names {
		f.start(name, 0)
	}
	f.runner = f.nodes[names[0]]
	f.reconciles(f.runner)
}

// start opens a node's log and registers it.
func (f *fleet) start(name string, skew time.Duration) *machine {
	f.t.Helper()
	m := &machine{name: name, skew: skew}
	f.openLog(m)
	f.nodes[name] = m
	f.registry.set(ledger.Node{Name: name, State: ledger.NodeUp})
	return m
}

func (f *fleet) openLog(m *machine) {
	f.t.Helper()
	var err error
	m.log, err = fallbacklog.Open(fallbacklog.Options{Dir: "logs/" + m.name, Node: m.name, Disk: f.disk, SegmentBytes: fallbacklog.MinSegment, Now: func() time.Time { return f.clock(m) }})
	f.must(err)
}

// damage takes a record of a node's log away that nothing brings back, as the start
// after a repair finds it.
func (f *fleet) damage(m *machine, at fallbacklog.Position) {
	f.t.Helper()
	dir := "logs/" + m.name
	f.must(m.log.Close())
	f.must(f.disk.FlipBit(fmt.Sprintf("%s/%08d.seg", dir, at.Segment()), int64(at.Offset())+40, 1))
	done, err := fallbacklog.Repair(f.disk, dir, fallbacklog.Reached{})
	f.must(err)
	if len(done) != 1 || done[0].Lost <= 0 {
		f.t.Fatalf("the repair did %+v", done)
	}
	f.openLog(m)
}

// reconciles makes a node's reconciler, with no memory of what lanes said.
func (f *fleet) reconciles(m *machine) {
	f.t.Helper()
	var err error
	m.rec, err = New(Options{
		Log: m.log, Queue: f.broker, Lanes: func() map[string]Lane { return map[string]Lane{"midas": f.broker} }, Dir: "reports/" + m.name, Disk: f.disk,
		Others: Archived(f.archive, f.registry, m.name), Fed: fedName, Runs: f.runs, Weigh: f.weigh, Workers: 2, Now: func() time.Time { return f.clock(m) },
		Logger: slog.New(slog.NewTextHandler(f.said, nil)),
	})
	f.must(err)
}

func (f *fleet) close() {
	for _, m := range f.nodes {
		if m.rec != nil {
			m.rec.Close()
		}
		f.must(m.log.Close())
	}
	f.must(f.archive.Close())
	if f.ledger != nil {
		f.must(errors.Join(f.ledger.Close(), os.RemoveAll(f.dir)))
	}
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) now() time.Time {
	if f.at.IsZero() {
		return time.Now()
	}
	return f.at
}

// clock is a node's.
func (f *fleet) clock(m *machine) time.Time { return f.now().Add(m.skew) }

func (f *fleet) pass(d time.Duration) { f.at = f.at.Add(d) }

func (f *fleet) append(node string, recs ...*fallbacklog.Record) {
	f.t.Helper()
	f.must(f.nodes[node].log.Append(context.Background(), recs...))
}

// claim has a node take a claim in, which is not fed yet.
func (f *fleet) claim(node, user string) *fallbacklog.Record {
	f.t.Helper()
	c := newClaim(user, f.clock(f.nodes[node]))
	f.append(node, c)
	return c
}

// event writes down what a node did about an order.
func (f *fleet) event(node string, c *fallbacklog.Record, kind fallbacklog.Kind, e fallbacklog.Event) {
	f.t.Helper()
	elsewhere := *c
	elsewhere.At = 0
	f.append(node, about(&elsewhere, kind, f.clock(f.nodes[node]), e))
}

// feed has a node's feeder hand all its claims to the broker, and say so.
func (f *fleet) feed(node string) {
	f.t.Helper()
	m := f.nodes[node]
	r := m.log.Reader(m.fed, fallbacklog.Claimed)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			break
		}
		f.must(err)
		f.broker.put(&parcel{msg: &queue.Message{Claim: rec.Claim, Order: rec.Claim.Orders[0]}, claimed: rec.Time})
	}
	if m.fed = r.Position(); m.fed > 0 {
		f.append(node, &fallbacklog.Record{Kind: fallbacklog.Sent, Sent: &fallbacklog.Watermark{Queue: fedName, Through: m.fed}})
	}
}

// arrive archives what a node's log has, with the real archiver.
func (f *fleet) arrive(nodes ...string) {
	f.t.Helper()
	for _, name := range nodes {
		m := f.nodes[name]
		_, err := m.log.Seal(context.Background())
		f.must(err)
		a, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: m.log, Bucket: f.bucket})
		f.must(err)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		for !f.there(m) {
			select {
			case <-f.bucket.wrote:
			case <-time.After(time.Minute):
				f.t.Fatalf("the log of node %s does not arrive", name)
			}
		}
		stop()
		f.must(<-ended)
	}
}

func (f *fleet) there(m *machine) bool {
	x, err := f.archive.Open(context.Background(), m.name)
	if errors.Is(err, bucket.ErrNotFound) {
		return false
	}
	f.must(err)
	return x.End() >= m.log.End() && !x.AsOf().Before(f.clock(m).UTC())
}

// run has a node reconcile; without one, the first.
func (f *fleet) run(q Request, on ...string) *Report {
	f.t.Helper()
	m := f.runner
	if len(on) > 0 {
		m = f.nodes[on[0]]
	}
	report, err := m.rec.Run(context.Background(), q)
	f.must(err)
	if got, want := report.Expected-report.Actual-report.InFlight-report.Classes.Refused-report.Classes.Parked, report.Classes.Open(); got != want {
		f.t.Fatalf("expected − actual − in flight − refused − parked = %d, missing + unknown = %d", got, want)
	}
	return report
}

// settle lets everything come to rest that the logs say: a sample that all of them
// bear out.
func (f *fleet) settle() {
	f.t.Helper()
	f.pass(5 * time.Minute)
	f.look()
	f.pass(5 * time.Minute)
	f.arrive(slices.Collect(maps.Keys(f.nodes))...)
}

// look has every reconciler look at the lanes.
func (f *fleet) look() {
	for _, m := range f.nodes {
		if m.rec != nil {
			m.rec.look(context.Background())
		}
	}
}

// signalling is a bucket that tells when a manifest was written.
type signalling struct {
	bucket.Bucket
	wrote chan struct{}
}

func (s *signalling) Put(ctx context.Context, key string, c bucket.Content) error {
	return s.tell(key, s.Bucket.Put(ctx, key, c))
}

func (s *signalling) Replace(ctx context.Context, key string, old bucket.Sum, c bucket.Content) error {
	return s.tell(key, s.Bucket.Replace(ctx, key, old, c))
}

func (s *signalling) tell(key string, err error) error {
	if path.Base(key) == "manifest.json" {
		select {
		case s.wrote <- struct{}{}:
		default:
		}
	}
	return err
}

// nodeList is a registry that a test writes.
type nodeList struct {
	nodes map[string]ledger.Node
	err   error
}

func (l *nodeList) set(n ledger.Node) {
	if l.nodes == nil {
		l.nodes = map[string]ledger.Node{}
	}
	l.nodes[n.Name] = n
}

func (l *nodeList) Nodes(context.Context) ([]ledger.Node, time.Time, error) {
	return slices.Collect(maps.Values(l.nodes)), time.Time{}, l.err
}

// parcel is a message in the broker.
type parcel struct {
	msg     *queue.Message
	claimed time.Time // of a first delivery
	due     time.Time // of any other
}

// broker is a queue that all nodes share: it forgets nothing but what a test takes
// away.
type broker struct {
	fleet    *fleet
	mu       sync.Mutex
	waiting  []*parcel // first deliveries
	deferred []*parcel
	sent     []gift.OrderID // by the reconciler
	check    func(gift.OrderID)
	asked    func() // runs once, after the next Status is made and before it is told
}

func (b *broker) put(p *parcel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, p)
}

func (b *broker) Status(context.Context) (queue.Status, error) {
	s, asked := b.status()
	if asked != nil {
		asked()
	}
	return s, nil
}

func (b *broker) status() (s queue.Status, asked func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s = queue.Status{AsOf: b.fleet.now(), Backlog: int64(len(b.waiting))}
	low := func(mark *time.Time, t time.Time) {
		if !t.IsZero() && (mark.IsZero() || t.Before(*mark)) {
			*mark = t
		}
	}
	for _, p := range slices.Concat(b.waiting, b.deferred) {
		low(&s.Oldest, p.claimed)
		low(&s.OldestDue, p.due)
	}
	asked, b.asked = b.asked, nil
	return s, asked
}

func (b *broker) Send(_ context.Context, msgs ...*queue.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range msgs {
		if b.check != nil {
			b.check(m.Order.ID)
		}
		b.sent = append(b.sent, m.Order.ID)
		b.deferred = append(b.deferred, &parcel{msg: m, due: b.fleet.now().Add(time.Second)})
	}
	return nil
}

// forget loses everything that the broker has.
func (b *broker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting, b.deferred = nil, nil
}

func (b *broker) wantSent(want int) {
	b.fleet.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sent) != want {
		b.fleet.t.Fatalf("%d orders were sent again, want %d", len(b.sent), want)
	}
}
