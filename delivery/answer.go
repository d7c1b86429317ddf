package delivery

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"manna/gift"
)

const (
	maxAnswer     = 64 << 10  // bytes of an answer's body that are read
	maxHeader     = 64 << 10  // bytes of an answer's headers
	maxRetryAfter = time.Hour // a longer Retry-After is cut to this
)

// verdict is what a status code means for an order.
type verdict string

const (
	saysGranted       verdict = "granted"
	saysBefore        verdict = "before" // granted before
	saysRefused       verdict = "refused"
	saysBusy          verdict = "busy"
	saysMisconfigured verdict = "misconfigured"
	saysUnknown       verdict = "unknown"
)

// verdictOf is the table of the package comment.
func verdictOf(status int) verdict {
	switch status {
	case 409:
		return saysBefore
	case 400, 422:
		return saysRefused
	case 401, 403, 404, 405:
		return saysMisconfigured
	case 408, 425, 429, 503:
		return saysBusy
	}
	if status >= 200 && status <= 299 {
		return saysGranted
	}
	return saysUnknown
}

// answer is a partner's answer as far as it came.
type answer struct {
	status int
	header http.Header
	body   []byte
	long   bool     // the body is longer than maxAnswer
	cut    *failure // the body did not come to its end
}

// failure is a call, or an answer, that broke off. Its code is one of
// "cancelled", "timeout", "reset", "unreadable" and "unreachable".
type failure struct {
	code, reason string
	wrote        bool // bytes of the request may have left
}

func (f *failure) outcome() gift.Outcome {
	if f.wrote {
		return gift.Unknown{Code: f.code, Reason: f.reason}
	}
	return gift.Deferred{Code: f.code, Reason: f.reason}
}

// reader turns answers into outcomes and standings. It does no I/O.
type reader struct {
	paths    paths
	verdicts map[int]verdict // where they differ from the table
	states   map[string]string
}

func (r *reader) verdict(status int) verdict {
	if v, ok := r.verdicts[status]; ok {
		return v
	}
	return verdictOf(status)
}

// outcome reads the answer to a grant.
func (r *reader) outcome(a answer) gift.Outcome {
	says := r.verdict(a.status)
	switch says {
	case saysBusy, saysMisconfigured:
		// The status line is all that counts; the body only explains.
		code, reason := r.explain(a)
		return gift.Deferred{Code: string(says), Reason: because(code, reason), After: retryAfter(a.header, time.Now())}
	case saysUnknown:
		code, reason := r.explain(a)
		return gift.Unknown{Code: statusCode(a.status), Reason: because(code, reason)}
	}
	// What follows is final, so it must have been said in full.
	if a.cut != nil {
		return gift.Unknown{Code: a.cut.code, Reason: a.line() + ", then " + a.cut.reason}
	}
	if says == saysRefused {
		code, reason := r.explain(a)
		return gift.Refused{Code: orElse(code, "http_"+strconv.Itoa(a.status)), Reason: reason}
	}
	granted, ok := r.granted(a)
	if !ok {
		return gift.Unknown{Code: "unreadable", Reason: a.quote()}
	}
	granted.Before = says == saysBefore
	return granted
}

// granted reads the body of an answer that says granted.
func (r *reader) granted(a answer) (gift.Granted, bool) {
	if a.long {
		return gift.Granted{}, false
	}
	if len(bytes.TrimSpace(a.body)) == 0 {
		return gift.Granted{}, true
	}
	value, ok := decode(a.body)
	if !ok {
		return gift.Granted{}, false
	}
	return r.grantedIn(value)
}

func (r *reader) grantedIn(value any) (gift.Granted, bool) {
	reference, ok := mark(value, r.paths.reference)
	if !ok {
		return gift.Granted{}, false
	}
	voucher, ok := mark(value, r.paths.voucher)
	if !ok {
		return gift.Granted{}, false
	}
	return gift.Granted{Reference: reference, Voucher: voucher, Amount: amount(value, r.paths.amount)}, true
}

// standing reads the answer to a query.
func (r *reader) standing(a answer) Standing {
	value, ok := decode(a.body)
	// A bare 404 is more often a wrong address than an answer.
	answers := a.status >= 200 && a.status <= 299 || a.status == http.StatusNotFound
	if a.cut != nil || a.long || !answers || !ok {
		return r.unanswered(a)
	}
	state := words(value, r.paths.state, maxCode)
	if meant, ok := r.states[state]; ok {
		state = meant
	}
	if a.status == http.StatusNotFound && state != "none" {
		return r.unanswered(a)
	}
	switch state {
	case "none":
		return None{}
	case "pending":
		return Pending{}
	case "refused":
		code, reason := r.explain(a)
		return Settled{gift.Refused{Code: orElse(code, "refused"), Reason: reason}}
	case "granted":
		if granted, ok := r.grantedIn(value); ok {
			granted.Before = true
			return Settled{granted}
		}
	}
	return r.unanswered(a)
}

func (r *reader) unanswered(a answer) Standing {
	code, reason := r.explain(a)
	out := Unanswered{Code: "unreadable", Reason: because(code, reason)}
	switch {
	case a.cut != nil:
		out.Code, out.Reason = a.cut.code, a.line()+", then "+a.cut.reason
	case a.status < 200 || a.status > 299:
		switch says := verdictOf(a.status); says {
		case saysBusy, saysMisconfigured:
			out.Code = string(says)
			out.After = retryAfter(a.header, time.Now())
		default:
			out.Code = statusCode(a.status)
		}
	}
	return out
}

// explain finds the partner's own code and words. Where it has no code that is
// empty; where it has no words the status and what the body holds stand in.
func (r *reader) explain(a answer) (code, reason string) {
	if !a.long && a.cut == nil {
		value, _ := decode(a.body)
		code = words(value, r.paths.code, maxCode)
		reason = words(value, r.paths.reason, maxReason)
	}
	if reason == "" {
		reason = a.quote()
	}
	return code, reason
}

func (a answer) line() string {
	return strings.TrimSpace(strconv.Itoa(a.status) + " " + http.StatusText(a.status))
}

// quote is the answer as it came, for people.
func (a answer) quote() string {
	if body := clean(string(a.body), maxReason); body != "" {
		return clean(a.line()+": "+body, maxReason)
	}
	return a.line()
}

func because(code, reason string) string {
	if code == "" {
		return reason
	}
	return clean(code+": "+reason, maxReason)
}

// statusCode names a status that decides nothing.
func statusCode(status int) string {
	if status >= 500 && status <= 599 {
		return "server_error"
	}
	return "unexpected_status"
}

// retryAfter reads the header as seconds or as a date, within [0, 1 h]. What
// cannot be read asks for nothing.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds >= int(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// parseVerdict reads a configured meaning of a status.
func parseVerdict(s string) (verdict, error) {
	switch v := verdict(s); v {
	case saysGranted, saysBefore, saysRefused, saysBusy, saysMisconfigured, saysUnknown:
		return v, nil
	}
	return "", fmt.Errorf("%q is no meaning of an answer: write granted, before, refused, busy, misconfigured or unknown", clean(s, maxCode))
}
