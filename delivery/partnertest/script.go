package partnertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"manna/gift"
)

// Duration is a time.Duration that reads and writes "20ms" in JSON.
type Duration time.Duration

// Units for scripts written in Go: 20 * partnertest.Millisecond.
const (
	Millisecond = Duration(time.Millisecond)
	Second      = Duration(time.Second)
)

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText gives the form of time.Duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form of time.Duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write one like 20ms or 2s", text)
	}
	*d = Duration(v)
	return nil
}

// Script says how a partner behaves. The zero Script is a partner that grants
// everything at once, does not dedupe, and answers queries.
type Script struct {
	Name string `json:"name,omitempty"` // default "sim"
	Seed uint64 `json:"seed,omitempty"`

	// Rate is how many calls a second it bears; 0: any number. A call above it
	// is answered 429, is not applied and is counted as punished.
	Rate float64 `json:"rate,omitempty"`
	// Latency passes before a grant is applied, evenly spread.
	Latency Span `json:"latency,omitzero"`

	// Dedupe: a repeat of a granted order is answered as the first time and not
	// applied again.
	Dedupe           bool   `json:"dedupe,omitempty"`
	ConflictOnRepeat bool   `json:"conflict_on_repeat,omitempty"` // with Dedupe: 409 instead of 200
	Unauthorized     bool   `json:"unauthorized,omitempty"`       // 401 to everything
	Secret           string `json:"secret,omitempty"`             // 401 to calls not signed with it by Standard Webhooks

	// Query is QueryAnswers (default), QueryPending or QueryAbsent.
	Query        string `json:"query,omitempty"`
	PendingFirst int    `json:"pending_first,omitempty"` // this many queries of each order are answered pending

	// Refuse is the share of orders that are refused for good.
	Refuse float64 `json:"refuse,omitempty"`

	// Shares of calls whose order is not applied.
	TooMany  float64 `json:"too_many,omitempty"`  // 429 with RetryAfter
	Timeout  float64 `json:"timeout,omitempty"`   // no answer until the caller gives up
	Error500 float64 `json:"error_500,omitempty"` // 500
	Reset    float64 `json:"reset,omitempty"`     // the request is read, then the connection reset
	// Late: no answer until the caller gives up, applied LateBy after that.
	Late float64 `json:"late,omitempty"`

	// Shares of calls whose order is applied, and then:
	ApplyThenTimeout float64 `json:"apply_then_timeout,omitempty"` // no answer until the caller gives up
	ApplyThen500     float64 `json:"apply_then_500,omitempty"`     // 500
	ApplyThenReset   float64 `json:"apply_then_reset,omitempty"`   // the connection is reset
	Garbage          float64 `json:"garbage,omitempty"`            // 200 with a body that cannot be read
	Drip             float64 `json:"drip,omitempty"`               // 200, a byte each 100 ms for a minute
	WrongAmount      float64 `json:"wrong_amount,omitempty"`       // granted with an amount 1 too high

	// FaultCalls keeps the shares above to an order's first calls; 0: all calls.
	FaultCalls int `json:"fault_calls,omitempty"`

	RetryAfter Duration `json:"retry_after,omitempty"` // of 429 and 503, in whole seconds; default 1 s
	LateBy     Duration `json:"late_by,omitempty"`     // default 100 ms

	// Answer is the status of every answer to a grant, 0 for none such; with
	// AnswerApplies the order is applied first.
	Answer        int  `json:"answer,omitempty"`
	AnswerApplies bool `json:"answer_applies,omitempty"`

	// Down windows count from the moment the script is set.
	Down []Window `json:"down,omitempty"`
}

// Values of Script.Query.
const (
	QueryAnswers = "answers"
	QueryPending = "pending" // every query is answered pending
	QueryAbsent  = "absent"  // every query is answered with a bare 404
)

// Span is a range of durations.
type Span struct {
	Min Duration `json:"min"`
	Max Duration `json:"max"` // at least Min
}

// Window is a time during which the partner is down. Open connections are reset
// as it begins.
type Window struct {
	After Duration `json:"after"`
	For   Duration `json:"for"`
	// By is DownReset (default): connections are accepted and reset unread; or
	// DownRefuse: the listener is closed, so connections are refused.
	By string `json:"by,omitempty"`
}

// Values of Window.By.
const (
	DownReset  = "reset"
	DownRefuse = "refuse"
)

const maxWindows = 1000

// ReadScript reads a script as JSON; unknown fields are refused.
func ReadScript(r io.Reader) (Script, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
	if err != nil {
		return Script{}, fmt.Errorf("script: %w", err)
	}
	if len(text) > maxRequest {
		return Script{}, fmt.Errorf("script: is longer than %d bytes", maxRequest)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var s Script
	if err := d.Decode(&s); err != nil {
		return Script{}, fmt.Errorf("script: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Script{}, fmt.Errorf("script: something follows the JSON object")
	}
	return s, s.Check()
}

// Check says what is wrong with a script.
func (s Script) Check() error {
	sum := 0.0
	for _, f := range s.faults() {
		if !(f.share >= 0 && f.share <= 1) {
			return fmt.Errorf("script: %s: a share is from 0 to 1, not %v", f.fault, f.share)
		}
		sum += f.share
	}
	if sum > 1+1e-9 {
		return fmt.Errorf("script: the shares of faulty calls add up to %v, more than 1", sum)
	}
	if !(s.Refuse >= 0 && s.Refuse <= 1) {
		return fmt.Errorf("script: refuse: a share is from 0 to 1, not %v", s.Refuse)
	}
	if !(s.Rate >= 0 && s.Rate <= 1e6) {
		return fmt.Errorf("script: rate: %v is not from 0 to 1000000 a second", s.Rate)
	}
	if s.Latency.Min < 0 || s.Latency.Max < 0 || s.RetryAfter < 0 || s.LateBy < 0 {
		return fmt.Errorf("script: a duration cannot be negative")
	}
	if s.Latency.Max != 0 && s.Latency.Max < s.Latency.Min {
		return fmt.Errorf("script: latency: max %v is below min %v", s.Latency.Max, s.Latency.Min)
	}
	switch s.Query {
	case "", QueryAnswers, QueryPending, QueryAbsent:
	default:
		return fmt.Errorf("script: query: %q: write answers, pending or absent", s.Query)
	}
	if s.Answer != 0 && (s.Answer < 200 || s.Answer > 599) {
		return fmt.Errorf("script: answer: %d is no status from 200 to 599", s.Answer)
	}
	if len(s.Down) > maxWindows {
		return fmt.Errorf("script: down: more than %d windows", maxWindows)
	}
	for _, w := range s.Down {
		if w.After < 0 || w.For < 0 || w.By != "" && w.By != DownReset && w.By != DownRefuse {
			return fmt.Errorf("script: down: %+v: durations from 0, by reset or refuse", w)
		}
	}
	return nil
}

// fault is how a call goes wrong; its text is the name in the books and in the
// script.
type fault string

const (
	faultNone             fault = ""
	faultTooMany          fault = "too_many"
	faultTimeout          fault = "timeout"
	faultError500         fault = "error_500"
	faultReset            fault = "reset"
	faultLate             fault = "late"
	faultApplyThenTimeout fault = "apply_then_timeout"
	faultApplyThen500     fault = "apply_then_500"
	faultApplyThenReset   fault = "apply_then_reset"
	faultGarbage          fault = "garbage"
	faultDrip             fault = "drip"
	faultWrongAmount      fault = "wrong_amount"
)

type share struct {
	fault fault
	share float64
}

func (s *Script) faults() []share {
	return []share{
		{faultTooMany, s.TooMany}, {faultTimeout, s.Timeout}, {faultError500, s.Error500},
		{faultReset, s.Reset}, {faultLate, s.Late},
		{faultApplyThenTimeout, s.ApplyThenTimeout}, {faultApplyThen500, s.ApplyThen500},
		{faultApplyThenReset, s.ApplyThenReset}, {faultGarbage, s.Garbage}, {faultDrip, s.Drip},
		{faultWrongAmount, s.WrongAmount},
	}
}

// draw gives a number in [0, 1) that depends on nothing but its inputs.
func (s *Script) draw(what string, id gift.OrderID, call int) float64 {
	var room [128]byte
	b := binary.BigEndian.AppendUint64(room[:0], s.Seed)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(call))
	sum := sha256.Sum256(append(b, what...))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

func (s *Script) fault(id gift.OrderID, call int) fault {
	if s.FaultCalls > 0 && call > s.FaultCalls {
		return faultNone
	}
	at := s.draw("fault", id, call)
	for _, f := range s.faults() {
		if at < f.share {
			return f.fault
		}
		at -= f.share
	}
	return faultNone
}

func (s *Script) refuses(id gift.OrderID) bool {
	return s.Refuse > 0 && s.draw("refuse", id, 0) < s.Refuse
}

func (s *Script) latency(id gift.OrderID, call int) time.Duration {
	spread := float64(s.Latency.Max - s.Latency.Min)
	if spread <= 0 {
		return time.Duration(s.Latency.Min)
	}
	return time.Duration(s.Latency.Min) + time.Duration(spread*s.draw("latency", id, call))
}

// down finds the window that covers the moment since after the script was set,
// and how long things stay as they are; 0 where nothing changes any more.
func (s *Script) down(since time.Duration) (by string, stays time.Duration) {
	next := time.Duration(0)
	for _, w := range s.Down {
		from, to := time.Duration(w.After), time.Duration(w.After+w.For)
		switch {
		case since >= from && since < to:
			if w.By == "" {
				w.By = DownReset
			}
			return w.By, to - since
		case since < from && (next == 0 || from-since < next):
			next = from - since
		}
	}
	return "", next
}
