package partnertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"manna/gift"
)

const maxRequest = 1 << 20 // bytes of a request's body

// Partner is a scripted partner. It is an http.Handler, safe for concurrent use.
// Down windows and stalls need Serve or Start: a handler under somebody else's
// server has no listener to close and no heartbeat.
type Partner struct {
	URL string // where Start serves it; grants go to URL + "/grant", queries to URL + "/orders"

	ledger *ledger
	mux    *http.ServeMux

	mu        sync.Mutex
	script    Script
	scriptSet time.Time
	changed   chan struct{} // closed when the script changes
	stopping  chan struct{} // closed when Serve ends
	stopped   bool
	active    sync.WaitGroup
}

// order is what a grant asks for. Fields that a caller adds are no concern here.
type order struct {
	id       gift.OrderID
	OrderID  string `json:"order_id"`
	User     string `json:"user"`
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// New makes a partner. It panics on a script that Check refuses.
func New(s Script) *Partner {
	p := &Partner{
		ledger: newLedger(), mux: http.NewServeMux(),
		changed: make(chan struct{}), stopping: make(chan struct{}),
	}
	if err := p.SetScript(s); err != nil {
		panic(err)
	}
	p.mux.HandleFunc("POST /grant", p.grant)
	p.mux.HandleFunc("GET /orders/{id}", p.query)
	p.mux.HandleFunc("GET /books", p.serveBooks)
	p.mux.HandleFunc("GET /script", p.serveScript)
	p.mux.HandleFunc("POST /script", p.takeScript)
	p.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return p
}

// SetScript changes the behaviour from now on; Down windows count from now. The
// books go on.
func (p *Partner) SetScript(s Script) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Name == "" {
		s.Name = "sim"
	}
	p.ledger.setRate(s.Rate)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script, p.scriptSet = s, time.Now()
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// Script is the behaviour now.
func (p *Partner) Script() Script {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.script
}

// Books are what the partner holds for true now.
func (p *Partner) Books() *Books {
	s := p.Script()
	return p.ledger.books(s.Name, s.Rate)
}

// ServeHTTP answers one request.
func (p *Partner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	p.active.Add(1)
	p.mu.Unlock()
	defer p.active.Done()
	p.mux.ServeHTTP(w, r)
}

// stop ends every wait and returns when no request is being answered. Later
// requests are cut.
func (p *Partner) stop() {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		close(p.stopping)
	}
	p.mu.Unlock()
	p.active.Wait()
}

// grant is POST /grant.
func (p *Partner) grant(w http.ResponseWriter, r *http.Request) {
	over := p.ledger.arrive()
	s := p.Script()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		p.refuse(w, http.StatusBadRequest, "malformed", "the body could not be read")
		return
	}
	if !authorized(&s, r, body) {
		p.refuse(w, http.StatusUnauthorized, "unauthorized", "no such caller")
		return
	}
	o, reason := readOrder(r, body)
	if reason != "" {
		p.refuse(w, http.StatusBadRequest, "malformed", reason)
		return
	}
	if over {
		p.tooMany(w, &s, http.StatusTooManyRequests, "punished")
		return
	}
	call := p.ledger.hear(o)
	if call == 0 {
		p.tooMany(w, &s, http.StatusServiceUnavailable, "full")
		return
	}
	// A caller that gives up does not stop what it has set going.
	if !p.wait(s.latency(o.id, call), nil) {
		p.ledger.note("stopped")
		panic(http.ErrAbortHandler)
	}
	(&attempt{partner: p, script: &s, order: o, call: call, w: w, r: r}).run()
}

// readOrder finds the order's id in the header, in the body, or the same in both.
func readOrder(r *http.Request, body []byte) (o order, reason string) {
	if err := json.Unmarshal(body, &o); err != nil {
		return o, "the body is not the JSON of an order"
	}
	key := r.Header.Get("Idempotency-Key")
	switch {
	case key == "":
		key = o.OrderID
	case o.OrderID != "" && o.OrderID != key:
		return o, "Idempotency-Key and order_id differ"
	}
	id, err := gift.ParseOrderID(key)
	if err != nil {
		return o, "neither Idempotency-Key nor order_id is an order's id"
	}
	o.id = id
	return o, ""
}

// query is GET /orders/{id}.
func (p *Partner) query(w http.ResponseWriter, r *http.Request) {
	over := p.ledger.arrive()
	s := p.Script()
	if !authorized(&s, r, nil) {
		p.refuse(w, http.StatusUnauthorized, "unauthorized", "no such caller")
		return
	}
	if over {
		p.tooMany(w, &s, http.StatusTooManyRequests, "punished")
		return
	}
	id, err := gift.ParseOrderID(r.PathValue("id"))
	if s.Query == QueryAbsent || err != nil {
		p.ledger.note("query_absent")
		http.NotFound(w, r)
		return
	}
	e, known := p.ledger.query(id)
	switch {
	case known && (s.Query == QueryPending || int(e.queries) <= s.PendingFirst):
		p.ledger.note("query_pending")
		writeJSON(w, http.StatusOK, map[string]any{"state": "pending"})
	case e.refused:
		p.ledger.note("query_refused")
		writeJSON(w, http.StatusOK, map[string]any{"state": "refused", "code": refusedCode, "reason": refusedReason})
	case e.count > 0:
		p.ledger.note("query_granted")
		writeJSON(w, http.StatusOK, map[string]any{"state": "granted", "reference": e.reference(1), "amount": e.amount})
	default:
		p.ledger.note("query_none")
		writeJSON(w, http.StatusNotFound, map[string]any{"state": "none"})
	}
}

func (p *Partner) serveBooks(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// An error here is the caller's connection breaking.
	_ = p.Books().write(w, r.URL.Query().Get("arrivals") == "yes")
}

func (p *Partner) serveScript(w http.ResponseWriter, _ *http.Request) {
	s := p.Script()
	if s.Secret != "" {
		s.Secret = "hidden"
	}
	writeJSON(w, http.StatusOK, s)
}

func (p *Partner) takeScript(w http.ResponseWriter, r *http.Request) {
	s, err := ReadScript(r.Body)
	if err == nil {
		err = p.SetScript(s)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]any{"code": "bad_script", "reason": err.Error()})
		return
	}
	p.serveScript(w, r)
}

func (p *Partner) refuse(w http.ResponseWriter, status int, code, reason string) {
	p.ledger.note(code)
	writeJSON(w, status, map[string]any{"code": code, "reason": reason})
}

func (p *Partner) tooMany(w http.ResponseWriter, s *Script, status int, kind string) {
	p.ledger.note(kind)
	w.Header().Set("Retry-After", retryAfter(s))
	writeJSON(w, status, map[string]any{"code": kind, "reason": "come again later"})
}

func retryAfter(s *Script) string {
	after := time.Duration(s.RetryAfter)
	if after == 0 {
		after = time.Second
	}
	return strconv.Itoa(int(math.Ceil(after.Seconds())))
}

// wait passes d, or less where done is closed; it is false where the partner
// stops first.
func (p *Partner) wait(d time.Duration, done <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	case <-p.stopping:
		return false
	}
	return true
}

// authorized checks the Standard Webhooks signature where the script has a
// secret. It is written apart from the adapter's own, so that each tests the
// other.
func authorized(s *Script, r *http.Request, body []byte) bool {
	if s.Unauthorized {
		return false
	}
	if s.Secret == "" {
		return true
	}
	key := []byte(s.Secret)
	if encoded, ok := strings.CutPrefix(s.Secret, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return false
		}
	}
	stamp := r.Header.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	for _, part := range [][]byte{[]byte(r.Header.Get("Webhook-Id")), []byte("."), []byte(stamp), []byte("."), body} {
		mac.Write(part)
	}
	for signature := range strings.FieldsSeq(r.Header.Get("Webhook-Signature")) {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && hmac.Equal(given, mac.Sum(nil)) {
			return true
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error is the caller's connection breaking
}
