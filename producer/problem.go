package producer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"manna/gift"
)

// problemKind is what HTTP says of a code.
type problemKind struct {
	status int
	title  string
}

// problems maps the codes to HTTP. It is the one place that does.
var problems = map[gift.Code]problemKind{
	gift.BadRequest:      {http.StatusBadRequest, "The request is not valid"},
	gift.Unauthenticated: {http.StatusUnauthorized, "The caller is not known"},
	gift.Forbidden:       {http.StatusForbidden, "The caller may not do this"},
	gift.NotFound:        {http.StatusNotFound, "There is no such thing"},
	gift.CampaignUnknown: {http.StatusNotFound, "There is no such campaign"},
	gift.CampaignNotOpen: {http.StatusForbidden, "The campaign is not open yet"},
	gift.CampaignClosed:  {http.StatusForbidden, "The campaign is closed"},
	gift.NotEligible:     {http.StatusForbidden, "The user may not have this gift"},
	gift.LimitReached:    {http.StatusConflict, "The user has claimed as often as allowed"},
	gift.SoldOut:         {http.StatusConflict, "The gift is sold out"},
	gift.TooManyRequests: {http.StatusTooManyRequests, "Too many requests"},
	gift.Overloaded:      {http.StatusServiceUnavailable, "The service is overloaded"},
	gift.Unavailable:     {http.StatusServiceUnavailable, "The service is not available"},
}

// problem is RFC 9457's document.
type problem struct {
	Type   string    `json:"type"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Code   gift.Code `json:"code"`
	Detail string    `json:"detail"`
	Field  string    `json:"field,omitempty"`
}

// httpError is a refusal whose status is not its code's usual one.
type httpError struct {
	told   *gift.Error
	status int
}

func (e *httpError) Error() string { return e.told.Error() }
func (e *httpError) Unwrap() error { return e.told }

// problemOf says what is told of an error, and how long to wait.
func problemOf(err error) (p problem, retry time.Duration) {
	refused, ok := errors.AsType[*gift.Error](err)
	if !ok {
		refused = &gift.Error{Code: gift.Unavailable, Detail: "the request could not be handled now; come again", RetryAfter: soon()}
	}
	kind := problems[refused.Code]
	if special, ok := errors.AsType[*httpError](err); ok {
		kind.status = special.status
	}
	return problem{
		Type: "urn:manna:problem:" + string(refused.Code), Title: kind.title, Status: kind.status,
		Code: refused.Code, Detail: refused.Detail, Field: refused.Field,
	}, refused.RetryAfter
}

// WriteProblem answers an error as application/problem+json. A *gift.Error is
// told as it is; of any other the caller learns only that it is ours.
func WriteProblem(w http.ResponseWriter, err error) {
	p, retry := problemOf(err)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	if p.Code == gift.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="manna"`)
	}
	w.WriteHeader(p.Status)
	// The caller may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(p)
}

func fieldError(field, format string, args ...any) *gift.Error {
	return &gift.Error{Code: gift.BadRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// quoted shows a caller's own text back, cut where it is long.
func quoted(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}
