package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"manna/breaker"
	"manna/consumer"
	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/ledger/sqlite"
	"manna/producer"
	"manna/queue/embedded"
	"manna/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "the token of the admin port"

// desk is a console over real rooms in a directory of its own. Nobody delivers:
// what happens to an order, the tests say.
type desk struct {
	t       *testing.T
	log     *fallbacklog.Log
	front   *producer.Front
	breaker *breaker.Breaker
	ledger  *stubborn
	// reconcile is what makes a run.
	reconcile func(context.Context, reconcile.Request) (*reconcile.Report, error)
	notReady  []string
	console   *Console
	http      http.Handler
}

// stubborn is a ledger whose audit can be made to fail.
type stubborn struct {
	ledger.Ledger
	fail error
}

func (s *stubborn) Audit(ctx context.Context, e ledger.Entry) error {
	if s.fail != nil {
		return s.fail
	}
	return s.Ledger.Audit(ctx, e)
}

// openDesk opens a console; change may add to what it looks into.
func openDesk(t *testing.T, change ...func(*Options)) *desk {
	t.Helper()
	d, dir := &desk{t: t}, t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	d.log, err = fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(dir, "log"), Node: "a"})
	must(err)
	t.Cleanup(func() { d.log.Close() })
	snapshot, err := producer.NewSnapshot([]*gift.Campaign{{
		Name: "spring", Opens: time.Unix(0, 0), Closes: time.Now().Add(time.Hour), Promise: time.Hour,
		Gifts: []*gift.Gift{{Name: "pack", Items: []gift.Item{{Name: "vip", Partner: "midas", Quantity: 1}}}},
	}})
	must(err)
	d.front, err = producer.NewFront(t.Context(), producer.Options{Log: d.log, Snapshot: snapshot, Dev: true, ReceiptKey: make([]byte, 32)})
	must(err)
	lanes, err := embedded.Open(t.Context(), embedded.Options{Log: d.log, Dir: filepath.Join(dir, "lanes")})
	must(err)
	t.Cleanup(func() { lanes.Close(context.Background()) })
	workers, err := consumer.New(consumer.Options{Log: d.log, Queue: lanes})
	must(err)
	kept, err := sqlite.Open(t.Context(), sqlite.Options{Dir: filepath.Join(dir, "ledger"), Node: "a"})
	must(err)
	t.Cleanup(func() { kept.Close() })
	d.ledger = &stubborn{Ledger: kept}
	d.breaker, err = breaker.New("partner/midas", breaker.Settings{Window: time.Minute, FailureRatio: 0.5, MinCalls: 10, OpenFor: time.Second, Timeout: time.Second})
	must(err)
	var breakers breaker.Set
	must(breakers.Add(d.breaker))
	runs, err := reconcile.New(reconcile.Options{
		Log: d.log, Queue: lanes, Lanes: func() map[string]reconcile.Lane { return nil }, Runs: kept, Dir: filepath.Join(dir, "reports"),
		BacklogUnder: 1000, Metrics: prometheus.NewRegistry(),
	})
	must(err)
	d.reconcile = runs.Run
	o := Options{
		Log: d.log, Front: d.front, Consumer: workers, Queue: lanes, Breakers: &breakers, Switches: NewSwitches(d.log, nil), Ledger: d.ledger,
		Reconcile: func(ctx context.Context, q reconcile.Request) (*reconcile.Report, error) { return d.reconcile(ctx, q) },
		Campaigns: func() []string { return []string{"spring"} }, NotReady: func(context.Context) []string { return d.notReady },
		Metrics: prometheus.NewRegistry(), Token: token, Version: "test",
	}
	for _, c := range change {
		c(&o)
	}
	d.console = New(o)
	d.http = d.console.Handler()
	return d
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (r reply) code() string  { s, _ := r.body["code"].(string); return s }
func (r reply) field() string { s, _ := r.body["field"].(string); return s }

func (d *desk) callAs(bearer, method, path, body string) reply {
	d.t.Helper()
	req := httptest.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(body))
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	d.http.ServeHTTP(w, req)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		d.t.Fatal(err)
	}
	r := reply{status: w.Code, header: w.Header(), text: string(text)}
	if strings.Contains(r.header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &r.body); err != nil {
			d.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return r
}

// call asks with the token and wants a status.
func (d *desk) call(status int, method, path, body string) reply {
	d.t.Helper()
	r := d.callAs(token, method, path, body)
	if r.status != status {
		d.t.Errorf("%s %s %.100s: got %d %s, want %d", method, path, body, r.status, r.text, status)
	}
	return r
}

// claim makes a claim and gives it with its one order.
func (d *desk) claim(user string) (*gift.Claim, gift.Order) {
	d.t.Helper()
	a, err := d.front.Claim(d.t.Context(), producer.Request{Campaign: "spring", User: user})
	if err != nil {
		d.t.Fatal(err)
	}
	return a.Claim, a.Claim.Orders[0]
}

// happens appends what happened to an order, as a lane would.
func (d *desk) happens(kind fallbacklog.Kind, c *gift.Claim, e fallbacklog.Event) {
	d.t.Helper()
	e.Order, e.Claim, e.Campaign, e.Partner, e.Attempts = c.Orders[0].ID, c.ID, c.Campaign, c.Orders[0].Partner, 1
	if err := d.log.Append(d.t.Context(), &fallbacklog.Record{Kind: kind, Time: time.Now().UTC(), Event: &e}); err != nil {
		d.t.Fatal(err)
	}
}

// records gives the records of a kind.
func (d *desk) records(kind fallbacklog.Kind) (all []*fallbacklog.Record) {
	d.t.Helper()
	r := d.log.Reader(0, kind)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			return all
		}
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, rec)
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %s does not say %q", what, text, w)
		}
	}
}

func TestOnlyTheTokenOpensTheAdminAPI(t *testing.T) {
	d := openDesk(t)
	for _, bearer := range []string{"", "x", token + "x", strings.ToUpper(token)} {
		r := d.callAs(bearer, "GET", "/v1/admin/status", "")
		same(t, "status for "+bearer, r.status, http.StatusUnauthorized)
		same(t, "code for "+bearer, r.code(), string(gift.Unauthenticated))
		if r.header.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate")
		}
	}
	for _, open := range []string{"/healthz", "/readyz", "/metrics"} {
		same(t, open, d.callAs("", "GET", open, "").status, http.StatusOK)
	}
	d.notReady = []string{"lane midas: stopped"}
	r := d.callAs("", "GET", "/readyz", "")
	same(t, "readiness", r.status, http.StatusServiceUnavailable)
	says(t, "readiness", r.text, `"ready":false`, "lane midas: stopped")
	for _, path := range []string{"/", "/v1/claims", "/v1/admin/nothing"} {
		same(t, path, d.call(http.StatusNotFound, "GET", path, "").code(), string(gift.NotFound))
	}
	says(t, "status", d.call(http.StatusOK, "GET", "/v1/admin/status", "").text, `"node":"a"`, `"version":"test"`, `"partner/midas"`)
}

func TestBodiesAreReadStrictly(t *testing.T) {
	d := openDesk(t)
	for _, body := range []string{``, `[]`, `{"mode":"open"}`, `{"mode":"held_open","because":"x"}`, `{"mode":"held_open","why":"x"} {}`, `{"why":"` + strings.Repeat("x", maxBody) + `"}`} {
		same(t, "code", d.call(http.StatusBadRequest, "POST", "/v1/admin/switches/partner/midas", body).code(), string(gift.BadRequest))
	}
	same(t, "mode", d.breaker.Snapshot().Mode, breaker.Automatic)
}

func TestStoriesAreTold(t *testing.T) {
	d := openDesk(t)
	c, o := d.claim("u1")
	d.happens(fallbacklog.Deferred, c, fallbacklog.Event{Code: "busy", Reason: "come again", Due: time.Now().Add(time.Minute)})
	r := d.call(http.StatusOK, "GET", "/v1/admin/orders/"+o.ID.String(), "")
	same(t, "state", r.body["state"], any("deferred"))
	says(t, "story", r.text, "user u1 claimed pack", "busy: come again", "The next attempt")
	r = d.call(http.StatusOK, "GET", "/v1/admin/claims/"+c.ID.String(), "")
	same(t, "state of the claim", r.body["state"], any("accepted"))
	d.happens(fallbacklog.Granted, c, fallbacklog.Event{Reference: "m-1"})
	same(t, "state once it is granted", d.call(http.StatusOK, "GET", "/v1/admin/claims/"+c.ID.String(), "").body["state"], any("settled"))
	says(t, "an order's id where a claim's belongs", d.call(http.StatusNotFound, "GET", "/v1/admin/claims/"+o.ID.String(), "").text, "manna order")
	says(t, "a claim's id where an order's belongs", d.call(http.StatusNotFound, "GET", "/v1/admin/orders/"+c.ID.String(), "").text, "manna claim")
	same(t, "field", d.call(http.StatusBadRequest, "GET", "/v1/admin/orders/7", "").field(), "id")
}

func TestSwitchIsInTheLogBeforeItIsHeld(t *testing.T) {
	d := openDesk(t)
	const path = "/v1/admin/switches/partner/midas"
	same(t, "field", d.call(http.StatusBadRequest, "POST", path, `{"mode":"held_open"}`).field(), "why")
	same(t, "field", d.call(http.StatusBadRequest, "POST", path, `{"mode":"held_open","why":"a\u202eb"}`).field(), "why")
	same(t, "field", d.call(http.StatusBadRequest, "POST", path, `{"mode":"held_open","why":"x","who":"`+strings.Repeat("w", maxWho+1)+`"}`).field(), "who")
	says(t, "an unknown one", d.call(http.StatusNotFound, "POST", "/v1/admin/switches/partner/nobody", `{"mode":"held_open","why":"x"}`).text, "partner/midas")
	same(t, "records", len(d.records(fallbacklog.Switched)), 0)

	// It needs no ledger: its record is its entry in the audit.
	d.ledger.fail = errors.New("locked")
	r := d.call(http.StatusOK, "POST", path, `{"mode":"held_open","why":"they asked","who":"night desk"}`)
	same(t, "mode", r.body["mode"], any("held_open"))
	same(t, "mode of the breaker", d.breaker.Snapshot().Mode, breaker.HeldOpen)
	recs := d.records(fallbacklog.Switched)
	if len(recs) != 1 || *recs[0].Switch != (fallbacklog.Switch{Name: "partner/midas", Mode: "held_open", Who: "night desk", Why: "they asked"}) {
		t.Errorf("the log holds %+v", recs)
	}
	says(t, "switches", d.call(http.StatusOK, "GET", "/v1/admin/switches", "").text, "night desk", "they asked")

	// A log that takes nothing leaves the switch as it is.
	if err := d.log.Close(); err != nil {
		t.Fatal(err)
	}
	d.call(http.StatusServiceUnavailable, "POST", path, `{"mode":"automatic"}`)
	same(t, "mode after the log has ended", d.breaker.Snapshot().Mode, breaker.HeldOpen)
}
