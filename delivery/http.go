package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"time"

	"manna/gift"
)

const (
	defaultTimeout     = 5 * time.Second
	defaultMaxInFlight = 100
	// idleFor is how long an unused connection is kept: less than the shortest
	// keep-alive in common use (5 s), because a call on a connection that the
	// partner is just closing ends as Unknown.
	idleFor = 4 * time.Second
)

// HTTPOptions describe a partner behind the http adapter. Only Name and URL are
// needed.
type HTTPOptions struct {
	Name     string
	URL      string // grants go here; user:password@ becomes basic authentication
	QueryURL string // + "/<order id>"; empty: the partner cannot be asked
	// Secret signs calls by Standard Webhooks: "whsec_" and base64, or a key's
	// own bytes. Empty: calls are not signed.
	Secret     string
	Idempotent bool // the partner dedupes by Idempotency-Key

	Timeout       time.Duration // of one call, from dialling to the answer's last byte; 0: 5 s
	SettlesWithin time.Duration // see Traits; 0: 3 × Timeout; never less than Timeout
	MaxInFlight   int           // calls at a time, for which connections are kept; 0: 100

	Method string // POST (default), PUT or PATCH
	// Headers are sent with every call. Values may be templates, as Body; a
	// header that needs more of an order than its id goes with grants only.
	Headers map[string]string
	// Body is a text/template that makes JSON out of the default body's fields:
	// {"id": {{json .order_id}}, "to": {{json (field .target "wallet")}}}.
	Body string

	ConflictMeans string         // of a 409: "granted" (default) or "refused"
	Answers       map[int]string // status → granted, before, refused, busy, misconfigured or unknown

	// Paths to the fields of an answer, names or list places with dots between
	// them. The defaults are the names themselves: reference, voucher, amount,
	// code, reason, state.
	ReferencePath, VoucherPath, AmountPath, CodePath, ReasonPath, StatePath string
	// States translates a query's state: theirs → granted, refused, pending or
	// none.
	States map[string]string

	TLS *tls.Config // nil: the system's roots
}

// HTTP is the http adapter; the package comment has its table.
type HTTP struct {
	traits    Traits
	method    string
	url       *url.URL
	query     *url.URL
	headers   []headerLine
	body      *template.Template // nil: the default body
	signer    *signer            // nil: unsigned
	reader    reader
	transport *http.Transport
}

var _ Adapter = (*HTTP)(nil)

// NewHTTP checks the options and makes an adapter. It connects to nothing. Its
// errors name the field at fault and never hold a secret.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	h, err := newHTTP(o)
	if err != nil {
		return nil, fmt.Errorf("partner %s: %w", o.Name, err)
	}
	return h, nil
}

func newHTTP(o HTTPOptions) (*HTTP, error) {
	h := &HTTP{method: o.Method, reader: reader{
		paths: paths{
			reference: orElse(o.ReferencePath, "reference"), voucher: orElse(o.VoucherPath, "voucher"),
			amount: orElse(o.AmountPath, "amount"), code: orElse(o.CodePath, "code"),
			reason: orElse(o.ReasonPath, "reason"), state: orElse(o.StatePath, "state"),
		},
		states: o.States,
	}}
	switch h.method {
	case "":
		h.method = http.MethodPost
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil, fmt.Errorf("method: %q hands nothing over: write POST, PUT or PATCH", o.Method)
	}
	if err := h.setTraits(o); err != nil {
		return nil, err
	}
	if err := h.setAddresses(o); err != nil {
		return nil, err
	}
	if err := h.setHeaders(o.Headers); err != nil {
		return nil, err
	}
	if err := h.setAnswers(o); err != nil {
		return nil, err
	}
	var err error
	if o.Secret != "" {
		if h.signer, err = newSigner(o.Secret); err != nil {
			return nil, err
		}
	}
	if o.Body != "" {
		if h.body, err = parseBody(o.Body); err != nil {
			return nil, err
		}
	}
	h.transport = newTransport(h.traits.Timeout, o.MaxInFlight, o.TLS)
	return h, nil
}

func (h *HTTP) setTraits(o HTTPOptions) error {
	if o.Timeout < 0 || o.SettlesWithin < 0 || o.MaxInFlight < 0 {
		return errors.New("timeout, settles_within and max_in_flight cannot be negative")
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	settles := o.SettlesWithin
	if settles == 0 {
		settles = 3 * timeout
	}
	if settles < timeout {
		return fmt.Errorf("settles_within: %v is less than the timeout of %v: a call still under way would pass for one that never was", settles, timeout)
	}
	h.traits = Traits{Idempotent: o.Idempotent, Queries: o.QueryURL != "", Timeout: timeout, SettlesWithin: settles}
	return nil
}

func (h *HTTP) setAddresses(o HTTPOptions) (err error) {
	if h.url, err = parseAddress("url", o.URL); err != nil {
		return err
	}
	if o.QueryURL != "" {
		h.query, err = parseAddress("query_url", o.QueryURL)
	}
	return err
}

func parseAddress(field, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		// url.Error repeats the text, which may hold a password.
		return nil, fmt.Errorf("%s: is no address: write one like https://partner.example/grant", field)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s: %q is no address: write one like https://partner.example/grant", field, u.Redacted())
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// ours are headers that the adapter or net/http writes.
var ours = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Idempotency-Key", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Webhook-Id", "Webhook-Signature", "Webhook-Timestamp",
}

func (h *HTTP) setHeaders(headers map[string]string) error {
	for name, value := range headers {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if slices.Contains(ours, canonical) {
			return fmt.Errorf("headers: %s is not yours to set", canonical)
		}
		if name == "" || strings.Trim(canonical, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return fmt.Errorf("headers: %q is no name of a header", clean(name, maxCode))
		}
		line, err := parseHeader(canonical, value)
		if err != nil {
			return err
		}
		h.headers = append(h.headers, line)
	}
	return nil
}

func (h *HTTP) setAnswers(o HTTPOptions) error {
	h.reader.verdicts = make(map[int]verdict, len(o.Answers)+1)
	switch o.ConflictMeans {
	case "", "granted":
	case "refused":
		h.reader.verdicts[http.StatusConflict] = saysRefused
	default:
		return fmt.Errorf("conflict_means: %q: write granted or refused", clean(o.ConflictMeans, maxCode))
	}
	for status, means := range o.Answers {
		v, err := parseVerdict(means)
		if err != nil {
			return fmt.Errorf("answers: %d: %w", status, err)
		}
		if status < 200 || status > 599 {
			return fmt.Errorf("answers: %d is no status of an answer: 200 to 599", status)
		}
		if status == http.StatusConflict && o.ConflictMeans != "" {
			return errors.New("answers: 409 is said by conflict_means already: write one of them")
		}
		h.reader.verdicts[status] = v
	}
	for theirs, state := range o.States {
		if !slices.Contains([]string{"granted", "refused", "pending", "none"}, state) {
			return fmt.Errorf("states: %s: %q: write granted, refused, pending or none", clean(theirs, maxCode), clean(state, maxCode))
		}
	}
	return nil
}

func newTransport(timeout time.Duration, inFlight int, config *tls.Config) *http.Transport {
	if inFlight == 0 {
		inFlight = defaultMaxInFlight
	}
	if config == nil {
		config = &tls.Config{}
	}
	d := &dialer{timeout: timeout, tls: config}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one call to a connection at a time, so that its bytes can be counted
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    timeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    inFlight,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              protocols,
	}
}

// Traits says what the partner can do.
func (h *HTTP) Traits() Traits { return h.traits }

// Close lets go of idle connections. Calls under way finish.
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }

// Grant makes one call; see Adapter.
func (h *HTTP) Grant(ctx context.Context, claim *gift.Claim, order gift.Order) gift.Outcome {
	body := newGrantBody(claim, order)
	text, err := encodeBody(h.body, body)
	if err != nil {
		return misconfigured(err)
	}
	header, err := h.header(order.ID, text, body.fields(), false)
	if err != nil {
		return misconfigured(err)
	}
	header.Set("Idempotency-Key", order.ID.String())
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	a, failed := h.call(ctx, h.method, h.url, header, text)
	if failed != nil {
		return failed.outcome()
	}
	return h.reader.outcome(a)
}

// misconfigured is an order that our configuration cannot express: nothing was
// sent.
func misconfigured(err error) gift.Outcome {
	return gift.Deferred{Code: string(saysMisconfigured), Reason: clean(err.Error(), maxReason)}
}

// Query makes one call; see Adapter.
func (h *HTTP) Query(ctx context.Context, id gift.OrderID) Standing {
	if h.query == nil {
		return Unanswered{Code: string(saysMisconfigured), Reason: "the partner has no query_url"}
	}
	header, err := h.header(id, nil, idFields(id), true)
	if err != nil {
		return Unanswered{Code: string(saysMisconfigured), Reason: clean(err.Error(), maxReason)}
	}
	a, failed := h.call(ctx, http.MethodGet, h.query.JoinPath(id.String()), header, nil)
	if failed != nil {
		return Unanswered{Code: failed.code, Reason: failed.reason}
	}
	return h.reader.standing(a)
}

// header makes the headers that grants and queries share.
func (h *HTTP) header(id gift.OrderID, body []byte, fields map[string]any, query bool) (http.Header, error) {
	header := make(http.Header, len(h.headers)+8)
	header.Set("Accept", "application/json")
	header.Set("User-Agent", "manna")
	target := h.url
	if query {
		target = h.query
	}
	if user := target.User; user != nil {
		password, _ := user.Password()
		basic := http.Request{Header: header}
		basic.SetBasicAuth(user.Username(), password)
	}
	for _, line := range h.headers {
		if query && !line.idOnly {
			continue
		}
		text, err := line.text(fields)
		if err != nil {
			return nil, err
		}
		header.Set(line.name, text)
	}
	if h.signer != nil {
		h.signer.sign(header, id.String(), time.Now(), body)
	}
	return header, nil
}

// call sends one request once and reads the answer as far as it comes, within
// the timeout. It goes to the transport itself: a client would follow redirects.
func (h *HTTP) call(ctx context.Context, method string, target *url.URL, header http.Header, body []byte) (answer, *failure) {
	if err := ctx.Err(); err != nil {
		return answer{}, &failure{code: "cancelled", reason: "given up before it began"}
	}
	ctx, cancel := context.WithTimeout(ctx, h.traits.Timeout)
	defer cancel()
	var line line
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: line.take})
	// net/http repeats a call by itself on a connection that had gone stale, if
	// it can get at the body again; an Idempotency-Key makes it do so for POST
	// too. A body that is neither nil nor to be had twice prevents that, and its
	// kind lets net/http still send it in one piece with the headers.
	request := (&http.Request{
		Method: method, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(traced)

	response, err := h.transport.RoundTrip(request)
	if err != nil {
		return answer{}, broken(ctx, err, line.drop())
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		a.cut = broken(ctx, err, true)
	}
	if len(a.body) > maxAnswer {
		a.body, a.long = a.body[:maxAnswer], true
	}
	return a, nil
}

// broken names what ended a call early.
func broken(ctx context.Context, err error, wrote bool) *failure {
	f := &failure{reason: clean(err.Error(), maxReason), wrote: wrote}
	var network net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		f.code = "cancelled"
	case !wrote:
		f.code = "unreachable"
	case ctx.Err() != nil:
		f.code = "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &network):
		f.code = "reset"
	case strings.Contains(err.Error(), "server closed idle connection"):
		f.code = "reset"
	default:
		f.code = "unreadable"
	}
	return f
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
