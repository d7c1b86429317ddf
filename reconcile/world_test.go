package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
	"manna/queue/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eight is the hour that most tests reconcile.
var eight = time.Date(2027, 2, 5, 20, 0, 0, 0, time.UTC)

// world is a log with the embedded queue and a reconciler on it, all by one
// clock that the test sets; set to the zero time it is the real one.
type world struct {
	t     testing.TB
	dir   string
	mu    sync.Mutex
	at    time.Time
	log   *fallbacklog.Log
	queue *embedded.Queue
	lanes map[string]queue.Lane
	asked map[string]Lane
	opts  Options
	rec   *Reconciler
	said  *lines
}

// newWorld opens everything; change may alter the options before.
func newWorld(t testing.TB, change func(*Options), partners ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), at: eight.Add(2 * time.Hour), said: &lines{}}
	w.open(change, partners...)
	t.Cleanup(w.close)
	return w
}

func (w *world) open(change func(*Options), partners ...string) {
	w.t.Helper()
	if len(partners) == 0 {
		partners = []string{"midas"}
	}
	var err error
	w.log, err = fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(w.dir, "log"), Node: "a", SegmentBytes: fallbacklog.MinSegment, Now: w.now})
	w.must(err)
	w.queue, err = embedded.Open(context.Background(), embedded.Options{Log: w.log, Dir: filepath.Join(w.dir, "lanes"), Now: w.now})
	w.must(err)
	w.lanes, w.asked = map[string]queue.Lane{}, map[string]Lane{}
	for _, p := range partners {
		lane, err := w.queue.Lane(context.Background(), p)
		w.must(err)
		w.lanes[p], w.asked[p] = lane, lane
	}
	w.opts = Options{
		Log: w.log, Queue: w.queue, Lanes: func() map[string]Lane { return w.asked }, Dir: filepath.Join(w.dir, "reports"), Now: w.now,
		Logger: slog.New(slog.NewTextHandler(w.said, nil)),
	}
	if change != nil {
		change(&w.opts)
	}
	w.rec, err = New(w.opts)
	w.must(err)
}

func (w *world) close() {
	w.rec.Close()
	w.must(w.queue.Close(context.Background()))
	if err := w.log.Close(); err != nil && !errors.Is(err, fallbacklog.ErrPoisoned) {
		w.must(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at.IsZero() {
		return time.Now()
	}
	return w.at
}

func (w *world) set(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = at
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// newClaim makes the record of a claim of one order at midas, worth 990.
func newClaim(user string, at time.Time) *fallbacklog.Record {
	id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
	return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: &gift.Claim{
		ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip", ClaimedAt: at, DeliverBy: at.Add(48 * time.Hour),
		Orders: []gift.Order{{ID: id.OrderID("vip-30"), Item: "vip-30", Partner: "midas", SKU: "V30", Quantity: 1, Amount: 990, Currency: "CNY"}},
	}}
}

// about makes the record of an event of a claim's first order.
func about(claim *fallbacklog.Record, kind fallbacklog.Kind, at time.Time, e fallbacklog.Event) *fallbacklog.Record {
	c := claim.Claim
	e.Order, e.Claim, e.Campaign, e.Partner, e.Origin = c.Orders[0].ID, c.ID, c.Campaign, c.Orders[0].Partner, claim.At
	if kind == fallbacklog.Granted && e.Amount == 0 {
		e.Amount = c.Orders[0].Amount
	}
	return &fallbacklog.Record{Kind: kind, Time: at, Event: &e}
}

func (w *world) append(recs ...*fallbacklog.Record) {
	w.t.Helper()
	w.must(w.log.Append(context.Background(), recs...))
}

// take receives the next message of midas.
func (w *world) take() *queue.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m, err := w.lanes["midas"].Receive(ctx)
	w.must(err)
	return m
}

// lose has the lane let the next order go, with whatever is in the log by now.
func (w *world) lose() {
	w.t.Helper()
	w.must(w.lanes["midas"].Ack(context.Background(), w.take()))
}

// claim appends the claim of user and then what make says came of it; the lane
// lets the order go.
func (w *world) claim(user string, at time.Time, events ...*fallbacklog.Record) *fallbacklog.Record {
	w.t.Helper()
	c := newClaim(user, at)
	w.append(c)
	m := w.take()
	w.must(w.lanes["midas"].Ack(context.Background(), m))
	return c
}

// granted appends a claim that was delivered as it should.
func (w *world) granted(user string, at time.Time) *fallbacklog.Record {
	c := w.claim(user, at)
	w.append(about(c, fallbacklog.Granted, at.Add(time.Second), fallbacklog.Event{Reference: "R-" + user}))
	return c
}

func (w *world) run(q Request) *Report {
	w.t.Helper()
	report, err := w.rec.Run(context.Background(), q)
	w.must(err)
	w.sound(report)
	return report
}

// sound checks what holds of every report.
func (w *world) sound(r *Report) {
	w.t.Helper()
	if got, want := r.Expected-r.Actual-r.InFlight-r.Classes.Refused-r.Classes.Parked, r.Classes.Missing+r.Classes.Unknown; got != want {
		w.t.Fatalf("expected − actual − in flight − refused − parked = %d, missing + unknown = %d: %+v", got, want, r)
	}
	var shares Counts
	for _, p := range r.Partners {
		shares.add(p.Classes)
	}
	if shares != r.Classes {
		w.t.Fatalf("the partners add up to %+v, the report says %+v", shares, r.Classes)
	}
	if got := int64(len(r.Discrepancies)); got != min(r.Found, MaxListed) {
		w.t.Fatalf("%d discrepancies are listed of %d", got, r.Found)
	}
}

// readAll reads the records of the given kinds, or all.
func readAll(t interface {
	Helper()
	Fatal(...any)
}, log *fallbacklog.Log, only ...fallbacklog.Kind) []*fallbacklog.Record {
	t.Helper()
	var recs []*fallbacklog.Record
	r := log.Reader(0, only...)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			return recs
		}
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
}

func (w *world) wantReissued(want int) {
	w.t.Helper()
	if got := len(readAll(w.t, w.log, fallbacklog.Reissued)); got != want {
		w.t.Fatalf("%d reissued records, want %d", got, want)
	}
}

// fixedLane is a lane with a status of the test's choice.
type fixedLane struct {
	status queue.Status
	err    error
}

func (l *fixedLane) Status(context.Context) (queue.Status, error) { return l.status, l.err }

// sent is a queue that keeps what it is sent, or fails.
type sent struct {
	mu   sync.Mutex
	msgs []*queue.Message
	err  error
}

func (s *sent) Send(_ context.Context, msgs ...*queue.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.msgs = append(s.msgs, msgs...)
	return nil
}

// lines keeps what was logged.
type lines struct {
	mu  sync.Mutex
	all []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p...)
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

var _ io.Writer = (*lines)(nil)

func users(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("u", i)
	}
	return list
}

// laneFunc is an empty lane that does something when it is asked.
type laneFunc func()

func (f laneFunc) Status(context.Context) (queue.Status, error) {
	f()
	return queue.Status{AsOf: eight.Add(2 * time.Hour)}, nil
}
