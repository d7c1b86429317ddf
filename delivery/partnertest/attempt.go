package partnertest

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	refusedCode   = "not_entitled"
	refusedReason = "this user may not have it"

	maxHold     = time.Minute // how long an answer is held for a caller that does not give up
	dripEach    = 100 * time.Millisecond
	dripLength  = 600 // bytes: a minute
	defaultLate = 100 * time.Millisecond
)

// attempt is one grant call that got as far as being decided.
type attempt struct {
	partner *Partner
	script  *Script
	order   order
	call    int
	w       http.ResponseWriter
	r       *http.Request
}

func (a *attempt) run() {
	if a.script.Answer != 0 {
		a.answerAs(a.script.Answer)
		return
	}
	fault := a.script.fault(a.order.id, a.call)
	if fault != faultNone {
		a.partner.ledger.note(string(fault))
	}
	switch fault {
	case faultTooMany:
		a.tooMany()
	case faultTimeout:
		a.hold()
	case faultError500:
		a.error500()
	case faultReset:
		a.reset()
	case faultLate:
		a.hold()
		late := time.Duration(a.script.LateBy)
		if late == 0 {
			late = defaultLate
		}
		// A partner that stops applies what it has in hand at once.
		a.partner.wait(late, nil)
		a.settle(0)
	case faultApplyThenTimeout:
		a.settle(0)
		a.hold()
	case faultApplyThen500:
		a.settle(0)
		a.error500()
	case faultApplyThenReset:
		a.settle(0)
		a.reset()
	case faultGarbage:
		a.settle(0)
		a.garbage()
	case faultDrip:
		_, body := a.settle(0)
		a.drip(body)
	case faultWrongAmount:
		a.answer(a.settle(1))
	default:
		a.answer(a.settle(0))
	}
}

// settle grants or refuses the order in the books and makes the answer to it.
func (a *attempt) settle(extra int64) (status int, body []byte) {
	p, s := a.partner, a.script
	e, repeated := p.ledger.settle(a.order.id, s.Dedupe, s.refuses(a.order.id), extra)
	if e.refused {
		p.ledger.note("refused")
		return http.StatusUnprocessableEntity, encode(map[string]any{"code": refusedCode, "reason": refusedReason})
	}
	status = http.StatusOK
	n := e.count
	switch {
	case repeated:
		p.ledger.note("repeated")
		n = 1
		if s.ConflictOnRepeat {
			status = http.StatusConflict
		}
	case e.count > 1:
		p.ledger.note("doubled")
	default:
		p.ledger.note("granted")
	}
	return status, encode(map[string]any{"reference": e.reference(n), "amount": e.amount})
}

func (a *attempt) answer(status int, body []byte) {
	a.w.Header().Set("Content-Type", "application/json")
	a.w.WriteHeader(status)
	a.w.Write(body)
}

// answerAs gives the scripted status, whatever became of the order.
func (a *attempt) answerAs(status int) {
	body := encode(map[string]any{"code": "scripted", "reason": "as the script says"})
	if a.script.AnswerApplies {
		_, body = a.settle(0)
	}
	a.partner.ledger.note("answer_" + strconv.Itoa(status))
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		a.w.Header().Set("Retry-After", retryAfter(a.script))
	case status >= 300 && status <= 399:
		a.w.Header().Set("Location", "/grant")
	case status == http.StatusNoContent:
		body = nil
	}
	a.answer(status, body)
}

func (a *attempt) tooMany() {
	a.w.Header().Set("Retry-After", retryAfter(a.script))
	a.answer(http.StatusTooManyRequests, encode(map[string]any{"code": "too_many", "reason": "come again later"}))
}

func (a *attempt) error500() {
	a.answer(http.StatusInternalServerError, encode(map[string]any{"code": "oops", "reason": "something broke"}))
}

// hold keeps the answer back until the caller gives up, and then drops the
// connection, as no answer is owed any more.
func (a *attempt) hold() {
	a.partner.wait(maxHold, a.r.Context().Done())
	if conn, _, err := http.NewResponseController(a.w).Hijack(); err == nil {
		conn.Close()
	}
}

// reset cuts the connection so that the caller sees ECONNRESET.
func (a *attempt) reset() {
	conn, _, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	cut(conn)
}

// cut closes a connection with a reset instead of an orderly end.
func cut(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0) // a connection that is gone already needs no reset
	}
	conn.Close()
}

// garbage answers 200 with something that is no answer.
func (a *attempt) garbage() {
	kinds := []string{
		"<html><body>It works!</body></html>",
		`{"reference":"P-`,
		"\x00\xff\xfe\x80 not text at all",
		`{"reference":{"is":["not","text"]}}`,
	}
	pick := int(a.script.draw("garbage", a.order.id, a.call) * float64(len(kinds)))
	a.answer(http.StatusOK, []byte(kinds[pick]))
}

// drip sends a good answer so slowly that nobody waits for its end.
func (a *attempt) drip(body []byte) {
	body = append(body, bytes.Repeat([]byte(" "), max(0, dripLength-len(body)))...)
	a.w.Header().Set("Content-Type", "application/json")
	a.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(a.w)
	for i := range body {
		if _, err := a.w.Write(body[i : i+1]); err != nil || control.Flush() != nil {
			return
		}
		if !a.partner.wait(dripEach, a.r.Context().Done()) {
			panic(http.ErrAbortHandler)
		}
		if a.r.Context().Err() != nil {
			return
		}
	}
}

func encode(v map[string]any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings and numbers go in
	}
	return text
}
