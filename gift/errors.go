package gift

import (
	"fmt"
	"time"
)

// Code names why a request was turned away. Codes are part of the HTTP
// contract: clients branch on them, so none is ever renamed.
type Code string

const (
	BadRequest      Code = "bad_request"
	Unauthenticated Code = "unauthenticated"
	Forbidden       Code = "forbidden"
	NotFound        Code = "not_found"
	CampaignUnknown Code = "campaign_unknown"
	CampaignNotOpen Code = "campaign_not_open"
	CampaignClosed  Code = "campaign_closed"
	NotEligible     Code = "not_eligible"
	LimitReached    Code = "limit_reached"
	SoldOut         Code = "sold_out"
	TooManyRequests Code = "too_many_requests"
	Overloaded      Code = "overloaded"
	Unavailable     Code = "unavailable"
)

// Error is a refusal with its code. Producers return it for everything that a
// caller can understand; any other error is ours and is logged, not shown.
type Error struct {
	Code       Code
	Detail     string        // for people: what is wrong and what would be right
	Field      string        // the field at fault, where it is one
	RetryAfter time.Duration // when to come again, where that helps
}

func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Detail)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Detail)
}

// Is makes errors.Is(err, &Error{Code: SoldOut}) compare codes alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf builds an Error without a field.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
