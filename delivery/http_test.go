package delivery

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
)

func partnerHTTP(t *testing.T, p *partnertest.Partner, o HTTPOptions) *HTTP {
	t.Helper()
	o.URL, o.QueryURL = p.URL+"/grant", p.URL+"/orders"
	return newTestHTTP(t, o)
}

func kind(o gift.Outcome) string {
	c := code(o)
	if c == "" {
		return o.State().String()
	}
	return o.State().String() + " " + c
}

// Each fault has a side on which the order was applied and one on which it was
// not; what the adapter says is held against the partner's books.
func TestFaults(t *testing.T) {
	const brief = 300 * time.Millisecond
	for _, c := range []struct {
		name    string
		script  partnertest.Script
		want    string
		applied int
		// query is what the partner says of the order afterwards.
		query string
	}{
		{"granted", partnertest.Script{}, "granted", 1, "granted"},
		{"refused", partnertest.Script{Refuse: 1}, "refused not_entitled", 0, "refused"},
		{"unauthorized", partnertest.Script{Unauthorized: true}, "deferred misconfigured", 0, "unanswered misconfigured"},
		{"wrong secret", partnertest.Script{Secret: "other"}, "deferred misconfigured", 0, "unanswered misconfigured"},
		{"too many", partnertest.Script{TooMany: 1}, "deferred busy", 0, "none"},

		{"timeout, not applied", partnertest.Script{Timeout: 1}, "unknown timeout", 0, "none"},
		{"timeout, applied", partnertest.Script{ApplyThenTimeout: 1}, "unknown timeout", 1, "granted"},
		{"timeout, refused", partnertest.Script{ApplyThenTimeout: 1, Refuse: 1}, "unknown timeout", 0, "refused"},
		{"timeout, not decided", partnertest.Script{ApplyThenTimeout: 1, PendingFirst: 1}, "unknown timeout", 1, "pending"},
		{"500, not applied", partnertest.Script{Error500: 1}, "unknown server_error", 0, "none"},
		{"500, applied", partnertest.Script{ApplyThen500: 1}, "unknown server_error", 1, "granted"},
		{"reset, not applied", partnertest.Script{Reset: 1}, "unknown reset", 0, "none"},
		{"reset, applied", partnertest.Script{ApplyThenReset: 1}, "unknown reset", 1, "granted"},
		{"drip", partnertest.Script{Drip: 1}, "unknown timeout", 1, "granted"},
		{"garbage", partnertest.Script{Garbage: 1}, "unknown unreadable", 1, "granted"},
		{"garbage, no query", partnertest.Script{Garbage: 1, Query: partnertest.QueryAbsent}, "unknown unreadable", 1, "unanswered misconfigured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := partnertest.Start(t, c.script)
			// Only those that must time out may: the others have the time of a busy machine.
			patient := partnerHTTP(t, p, HTTPOptions{Secret: "ours"})
			h := patient
			if c.want == "unknown timeout" {
				h = partnerHTTP(t, p, HTTPOptions{Timeout: brief, Secret: "ours"})
			}
			claim, order := testClaim(1)
			began := time.Now()
			got := kind(h.Grant(t.Context(), claim, order))
			if took, timeout := time.Since(began), h.Traits().Timeout; took > timeout+2*time.Second {
				t.Errorf("took %v with a timeout of %v", took, timeout)
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if n := p.Books().Count(order.ID); n != c.applied {
				t.Errorf("the books hold it %d times, want %d", n, c.applied)
			}
			if got := describe(patient.Query(t.Context(), order.ID)); got != c.query {
				t.Errorf("query: got %s, want %s", got, c.query)
			}
		})
	}
}

func describe(s Standing) string {
	switch s := s.(type) {
	case Settled:
		return s.Outcome.State().String()
	case Pending:
		return "pending"
	case None:
		return "none"
	case Unanswered:
		return "unanswered " + s.Code
	}
	return "?"
}

// A call that the caller has given up and the partner applies afterwards.
func TestLate(t *testing.T) {
	p := partnertest.Start(t, partnertest.Script{Late: 1, LateBy: 50 * partnertest.Millisecond})
	h := partnerHTTP(t, p, HTTPOptions{Timeout: 200 * time.Millisecond})
	claim, order := testClaim(1)
	if got, want := kind(h.Grant(t.Context(), claim, order)), "unknown timeout"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := p.Books().Count(order.ID); n != 0 {
		t.Errorf("applied %d times while the call was under way", n)
	}
	deadline := time.Now().Add(10 * time.Second)
	for describe(h.Query(t.Context(), order.ID)) != "granted" { // a partner gives no signal; one asks
		if time.Now().After(deadline) {
			t.Fatal("never applied")
		}
	}
}

// Every status, with the order applied and not applied.
func TestStatuses(t *testing.T) {
	want := map[string][]int{
		"granted":                   {200, 201, 202, 204, 206, 299, 409},
		"refused":                   {400, 422},
		"deferred misconfigured":    {401, 403, 404, 405},
		"deferred busy":             {408, 425, 429, 503},
		"unknown server_error":      {500, 501, 502, 504, 505, 599},
		"unknown unexpected_status": {300, 301, 302, 303, 304, 307, 308, 402, 406, 410, 411, 413, 415, 418, 423, 424, 451, 499},
	}
	p := partnertest.Start(t, partnertest.Script{})
	h := partnerHTTP(t, p, HTTPOptions{})
	n := 0
	for says, statuses := range want {
		for _, status := range statuses {
			for _, applies := range []bool{false, true} {
				if err := p.SetScript(partnertest.Script{Answer: status, AnswerApplies: applies, RetryAfter: 2 * partnertest.Second}); err != nil {
					t.Fatal(err)
				}
				n++
				claim, order := testClaim(n)
				o := h.Grant(t.Context(), claim, order)
				got := kind(o)
				if r, ok := o.(gift.Refused); ok {
					got = r.State().String()
				}
				if got != says {
					t.Errorf("%d: got %s, want %s", status, got, says)
				}
				if g, ok := o.(gift.Granted); ok && g.Before != (status == 409) {
					t.Errorf("%d: before %v", status, g.Before)
				}
				if d, ok := o.(gift.Deferred); ok && (status == 429 || status == 503) && d.After != 2*time.Second {
					t.Errorf("%d: after %v, want 2s", status, d.After)
				}
				if held := p.Books().Count(order.ID) == 1; held != applies {
					t.Errorf("%d: applied %v, want %v", status, held, applies)
				}
			}
		}
	}
	if got := p.Books().Arrivals; got != n {
		t.Errorf("%d calls arrived as %d", n, got)
	}
}

func TestGrantSaysAll(t *testing.T) {
	p := partnertest.Start(t, partnertest.Script{Dedupe: true, Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	h := partnerHTTP(t, p, HTTPOptions{Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	claim, order := testClaim(1)
	want := gift.Granted{Reference: "P-" + order.ID.String(), Amount: pointer(500)}
	if got := h.Grant(t.Context(), claim, order); !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
	if got := h.Grant(t.Context(), claim, order); !reflect.DeepEqual(got, want) {
		t.Errorf("repeat: got %#v, want %#v", got, want)
	}
	want.Before = true
	if got := h.Query(t.Context(), order.ID); !reflect.DeepEqual(got, Settled{want}) {
		t.Errorf("query: got %#v, want %#v", got, Settled{want})
	}
	if err := p.SetScript(partnertest.Script{Dedupe: true, ConflictOnRepeat: true}); err != nil {
		t.Fatal(err)
	}
	if got := h.Grant(t.Context(), claim, order); !reflect.DeepEqual(got, want) {
		t.Errorf("conflict: got %#v, want %#v", got, want)
	}
	refusing := partnerHTTP(t, p, HTTPOptions{ConflictMeans: "refused"})
	if got := refusing.Grant(t.Context(), claim, order).State(); got != gift.StateRefused {
		t.Errorf("conflict that refuses: got %v", got)
	}
	got, ok := p.Books().Grant(order.ID)
	if !ok || got.Count != 1 || got.User != claim.User || got.SKU != order.SKU || got.Amount != order.Amount {
		t.Errorf("the books hold %+v", got)
	}
}

func TestRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	h := newTestHTTP(t, HTTPOptions{
		URL: strings.Replace(server.URL, "://", "://me:pass@", 1) + "/v1/grant?tenant=7", QueryURL: server.URL + "/v1/orders?tenant=7",
		Method: "PUT", Headers: map[string]string{"X-Idempotency-Key": "{{.order_id}}", "x-user": "{{.user}}", "Content-Type": "application/vnd.gift+json"},
		Body: `{"id":{{json .order_id}}}`,
	})
	claim, order := testClaim(1)
	id := order.ID.String()
	if got := h.Grant(t.Context(), claim, order); got != (gift.Granted{}) {
		t.Fatalf("got %#v", got)
	}
	if got.Method != "PUT" || got.RequestURI != "/v1/grant?tenant=7" || string(body) != `{"id":"`+id+`"}` {
		t.Errorf("got %s %s %s", got.Method, got.RequestURI, body)
	}
	if user, password, _ := got.BasicAuth(); user != "me" || password != "pass" {
		t.Errorf("basic authentication: %q %q", user, password)
	}
	for name, want := range map[string]string{
		"Idempotency-Key": id, "X-Idempotency-Key": id, "X-User": claim.User, "Content-Type": "application/vnd.gift+json", "Webhook-Id": "",
	} {
		if got := got.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	h.Query(t.Context(), order.ID)
	if got.Method != "GET" || got.RequestURI != "/v1/orders/"+id+"?tenant=7" || got.ContentLength != 0 || len(got.TransferEncoding) != 0 {
		t.Errorf("query: got %s %s, %d bytes, %v", got.Method, got.RequestURI, got.ContentLength, got.TransferEncoding)
	}
	if got.Header.Get("X-Idempotency-Key") != id || got.Header.Values("X-User") != nil || got.Header.Get("Authorization") != "" {
		t.Errorf("query headers: %v", got.Header)
	}
}

// An order that the configuration cannot express is not sent at all.
func TestNotExpressible(t *testing.T) {
	p := partnertest.Start(t, partnertest.Script{})
	claim, order := testClaim(1)
	claim.User = "line\nbreak"
	claim.Target = json.RawMessage(`{"broken`)
	for name, o := range map[string]HTTPOptions{
		"default body": {},
		"template":     {Body: `{"w":{{json (field .target "wallet")}}}`},
		"header":       {Body: `{}`, Headers: map[string]string{"X-User": "{{.user}}"}},
	} {
		if got, want := kind(partnerHTTP(t, p, o).Grant(t.Context(), claim, order)), "deferred misconfigured"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if n := p.Books().Arrivals; n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// Connections are kept for as many calls as may be in flight: rounds of that many
// calls at once open no more than the first one did.
func TestConnectionsAreKept(t *testing.T) {
	const inFlight, rounds = 40, 5
	var opened, inside atomic.Int64
	release := make(chan struct{}, inFlight)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if inside.Add(1)%inFlight == 0 {
			for range inFlight {
				release <- struct{}{}
			}
		}
		<-release
		io.WriteString(w, "{}")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	h := newTestHTTP(t, HTTPOptions{URL: server.URL, MaxInFlight: inFlight})
	for range rounds {
		var calls sync.WaitGroup
		for i := range inFlight {
			calls.Go(func() {
				claim, order := testClaim(i)
				if got := h.Grant(t.Context(), claim, order); got != (gift.Granted{}) {
					t.Errorf("got %#v", got)
				}
			})
		}
		calls.Wait()
	}
	if n := opened.Load(); n > inFlight+inFlight/4 {
		t.Errorf("%d connections for %d calls at a time", n, inFlight)
	}
}

func TestNewHTTPRefuses(t *testing.T) {
	const url = "https://partner.example/grant"
	for field, o := range map[string]HTTPOptions{
		"url":                {},
		"url ":               {URL: "partner.example/grant"},
		"url  ":              {URL: "ftp://partner.example"},
		"url   ":             {URL: "https://me:hunter2@partner example/%zz"},
		"query_url":          {URL: url, QueryURL: "/orders"},
		"method":             {URL: url, Method: "GET"},
		"timeout":            {URL: url, Timeout: -1},
		"settles_within":     {URL: url, Timeout: 2 * time.Second, SettlesWithin: time.Second},
		"max_in_flight":      {URL: url, MaxInFlight: -1},
		"secret":             {URL: url, Secret: "whsec_hunter2!"},
		"conflict_means":     {URL: url, ConflictMeans: "maybe"},
		"answers: 200":       {URL: url, Answers: map[int]string{200: "fine"}},
		"answers: 42":        {URL: url, Answers: map[int]string{42: "granted"}},
		"answers: 409":       {URL: url, ConflictMeans: "granted", Answers: map[int]string{409: "granted"}},
		"states":             {URL: url, States: map[string]string{"DONE": "done"}},
		"body":               {URL: url, Body: `{"to":"{{.user}}"}`},
		"headers":            {URL: url, Headers: map[string]string{"idempotency-key": "x"}},
		"headers ":           {URL: url, Headers: map[string]string{"X Y": "x"}},
		"header X-Key":       {URL: url, Headers: map[string]string{"x-key": "hunter2\r\nEvil: 1"}},
		"header X-Template:": {URL: url, Headers: map[string]string{"x-template": "{{.nothing}}"}},
	} {
		o.Name = "midas"
		_, err := NewHTTP(o)
		if err == nil {
			t.Errorf("%s: was taken", field)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, "partner midas: ") || !strings.Contains(text, strings.TrimSpace(field)) {
			t.Errorf("%s: %v", field, err)
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", field, err)
		}
	}
}

func TestTraits(t *testing.T) {
	for _, c := range []struct {
		o    HTTPOptions
		want Traits
	}{
		{HTTPOptions{URL: "http://p/"}, Traits{Timeout: 5 * time.Second, SettlesWithin: 15 * time.Second}},
		{HTTPOptions{URL: "http://p/", QueryURL: "http://p/q", Idempotent: true, Timeout: 2 * time.Second, SettlesWithin: time.Minute},
			Traits{Idempotent: true, Queries: true, Timeout: 2 * time.Second, SettlesWithin: time.Minute}},
	} {
		h, err := NewHTTP(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Traits(); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
	h, err := NewHTTP(HTTPOptions{URL: "http://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(h.Query(t.Context(), gift.OrderID{})); got != "unanswered misconfigured" {
		t.Errorf("query without a query_url: %s", got)
	}
}
