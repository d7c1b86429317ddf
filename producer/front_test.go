package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
	"manna/queue"
)

var (
	opens      = time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	receiptKey = bytes.Repeat([]byte{7}, receiptKeySize)
)

// testCampaigns are one simple campaign, one with all there is, and two whose
// windows are not now.
func testCampaigns() []*gift.Campaign {
	item := func(name string, platforms ...string) gift.Item {
		return gift.Item{Name: name, Partner: "midas", SKU: strings.ToUpper(name), Quantity: 1, Amount: 990, Currency: "CNY", Platforms: platforms}
	}
	window := func(name string, opens time.Time) *gift.Campaign {
		return &gift.Campaign{Name: name, Opens: opens, Closes: opens.Add(time.Hour), Promise: 48 * time.Hour,
			Scenes: []gift.Scene{{Name: "rain"}}, Gifts: []*gift.Gift{{Name: "cash", Items: []gift.Item{item("cash-1")}}}}
	}
	spring := window("spring", opens)
	show := window("show", opens)
	show.Scenes = []gift.Scene{{Name: "first", Stages: []string{"s1", "s2", "s3"}}, {Name: "second"}}
	show.ClaimsPerUser = 2
	show.Gifts = []*gift.Gift{
		{Name: "pack", Stock: 100, LowUnder: 10, Instead: "greeting", Items: []gift.Item{item("vip", "ios", "android"), item("coin")}},
		{Name: "greeting", Stock: 5, Items: []gift.Item{item("card")}},
		{Name: "duo", Items: []gift.Item{item("left"), item("right")}},
		{Name: "pad", Items: []gift.Item{item("pad-case", "ios")}},
	}
	return []*gift.Campaign{spring, show, window("later", opens.Add(24*time.Hour)), window("over", opens.Add(-24*time.Hour))}
}

func compileCampaigns(t testing.TB, campaigns ...*gift.Campaign) *Snapshot {
	t.Helper()
	s, err := NewSnapshot(campaigns)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// clock is a wall clock that stands still until it is moved.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time        { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) move(by time.Duration) { c.at.Add(int64(by)) }

// sender remembers what was sent.
type sender struct {
	sent []*queue.Message
	err  error
}

func (s *sender) Send(_ context.Context, msgs ...*queue.Message) error {
	if s.err != nil {
		return s.err
	}
	s.sent = append(s.sent, msgs...)
	return nil
}

// fixture is a front on a real log, by default in a directory of its own.
type fixture struct {
	*Front
	t     *testing.T
	log   *fallbacklog.Log
	disk  disk.Disk
	dir   string
	clock *clock
	sent  *sender
	http  http.Handler
	doc   *document
}

func openFixture(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	return openFixtureOn(t, disk.OS{}, t.TempDir(), change...)
}

func openFixtureOn(t *testing.T, d disk.Disk, dir string, change ...func(*Options)) *fixture {
	t.Helper()
	return openNode(t, "a", d, dir, change...)
}

// openNode opens the front of one of several nodes.
func openNode(t *testing.T, node string, d disk.Disk, dir string, change ...func(*Options)) *fixture {
	t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: node, Disk: d, SegmentBytes: fallbacklog.MinSegment})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	f := &fixture{t: t, log: log, disk: d, dir: dir, clock: &clock{}, sent: &sender{}, doc: readDocument(t)}
	f.clock.at.Store(opens.Add(time.Minute).UnixNano())
	opts := Options{Log: log, Snapshot: compileCampaigns(t, testCampaigns()...), Dev: true, ReceiptKey: receiptKey, Queue: f.sent, Now: f.clock.now}
	for _, c := range change {
		c(&opts)
	}
	if f.Front, err = NewFront(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	f.http = f.Handler()
	return f
}

// reopen ends the log in order and starts again on what is there.
func (f *fixture) reopen(change ...func(*Options)) *fixture {
	f.t.Helper()
	if err := f.log.Close(); err != nil {
		f.t.Fatal(err)
	}
	return openNode(f.t, f.log.Node(), f.disk, f.dir, change...)
}

func (f *fixture) claim(req Request) Answer {
	f.t.Helper()
	a, err := f.Claim(context.Background(), req)
	if err != nil {
		f.t.Fatalf("claim %+v: %v", req, err)
	}
	return a
}

// refused claims and wants a refusal.
func (f *fixture) refused(req Request, code gift.Code) *gift.Error {
	f.t.Helper()
	_, err := f.Claim(context.Background(), req)
	told, ok := errors.AsType[*gift.Error](err)
	if !ok || told.Code != code {
		f.t.Fatalf("claim %+v: got %v, want %s", req, err, code)
	}
	return told
}

// records counts the records of a kind in the log.
func (f *fixture) records(kind fallbacklog.Kind) []*fallbacklog.Record {
	f.t.Helper()
	r := f.log.Reader(0, kind)
	defer r.Close()
	var all []*fallbacklog.Record
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			return all
		}
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, rec)
	}
}

// reply is an HTTP answer that has been held against the OpenAPI document.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (r reply) code() string { s, _ := r.body["code"].(string); return s }

// call sends a request through the handler.
func (f *fixture) call(method, path, body string, headers ...string) reply {
	f.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.http.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		f.t.Fatal(err)
	}
	got := reply{status: w.Code, header: w.Header(), text: string(text)}
	if err := json.Unmarshal(text, &got.body); err != nil {
		f.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	if err := f.doc.checkAnswer(method, r.URL.EscapedPath(), got); err != nil {
		f.t.Errorf("%s %s %.200s: the answer %d %s is not as documented: %v", method, path, body, got.status, text, err)
	}
	return got
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// event appends what happened to an order, as a lane would.
func (f *fixture) event(kind fallbacklog.Kind, claim *gift.Claim, order int, change ...func(*fallbacklog.Event)) {
	f.t.Helper()
	o := claim.Orders[order]
	e := &fallbacklog.Event{Order: o.ID, Claim: claim.ID, Campaign: claim.Campaign, Partner: o.Partner, Attempts: 1}
	for _, c := range change {
		c(e)
	}
	if err := f.log.Append(context.Background(), &fallbacklog.Record{Kind: kind, Time: f.clock.now(), Event: e}); err != nil {
		f.t.Fatal(err)
	}
}

// crashing gives a fixture on a disk that can fail.
func crashing(t *testing.T, change ...func(*Options)) (*fixture, *crashdisk.Disk) {
	t.Helper()
	d := crashdisk.New(1)
	return openFixtureOn(t, d, "/data", change...), d
}

func user(i int) string { return fmt.Sprintf("u%d", i) }

func TestOverload(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.Limits.InFlight = 2 })
	if err := f.enter(2); err != nil {
		t.Fatal(err)
	}
	told := f.refused(Request{Campaign: "spring", User: "u"}, gift.Overloaded)
	if told.RetryAfter <= 0 {
		t.Error("no Retry-After")
	}
	r := f.call("POST", "/v1/claims", `{"campaign":"spring","user":"u"}`)
	want(t, "status", r.status, 503)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After header")
	}
	r = f.call("POST", "/v1/claims/batch", `{"claims":[{"campaign":"spring","user":"u"}]}`)
	want(t, "batch status", r.status, 503)
	f.leave(2)
	f.claim(Request{Campaign: "spring", User: "u"})
	want(t, "in flight", f.inFlight.Load(), 0)
	// A batch larger than the limit is taken when it is alone.
	for i, r := range f.ClaimBatch(context.Background(), []Request{{Campaign: "spring", User: "a"}, {Campaign: "spring", User: "b"}, {Campaign: "spring", User: "c"}}) {
		if r.Err != nil {
			t.Errorf("claim %d: %v", i, r.Err)
		}
	}
}

func TestReloadLeavesTheOldSnapshotAlone(t *testing.T) {
	f := openFixture(t)
	f.claim(Request{Campaign: "spring", User: "u"})
	f.Reload(compileCampaigns(t, testCampaigns()[1]))
	f.refused(Request{Campaign: "spring", User: "v"}, gift.CampaignUnknown)
	f.Reload(compileCampaigns(t, testCampaigns()...))
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
}

func TestNewFrontRefusesBadOptions(t *testing.T) {
	f := openFixture(t)
	good := Options{Log: f.log, Snapshot: f.snapshot.Load(), Dev: true, ReceiptKey: receiptKey}
	for name, change := range map[string]func(*Options){
		"no log":         func(o *Options) { o.Log = nil },
		"no snapshot":    func(o *Options) { o.Snapshot = nil },
		"no auth":        func(o *Options) { o.Dev = false },
		"no receipt key": func(o *Options) { o.ReceiptKey = nil },
	} {
		o := good
		change(&o)
		if _, err := NewFront(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRebuildEndsWithItsContext(t *testing.T) {
	f := openFixture(t)
	for i := range 50 {
		f.claim(Request{Campaign: "spring", User: user(i)})
	}
	opts := Options{Log: f.log, Snapshot: f.snapshot.Load(), Dev: true, ReceiptKey: receiptKey}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewFront(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	// Also within one index, however long it is.
	indexes, err := f.log.Seal(t.Context())
	if err != nil || len(indexes) == 0 {
		t.Fatalf("%d indexes, %v", len(indexes), err)
	}
	s, guard := newStock(), newMemoryGuard()
	if err := s.restore(ctx, f.log, indexes[0], guard); !errors.Is(err, context.Canceled) || guard.len() != 0 {
		t.Errorf("took %d claims in and ended with %v", guard.len(), err)
	}
	if err := s.restore(t.Context(), f.log, indexes[0], guard); err != nil || guard.len() != 50 {
		t.Errorf("took %d claims in and ended with %v", guard.len(), err)
	}
}
