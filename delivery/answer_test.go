package delivery

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"manna/gift"
)

func plainReader() *reader {
	return &reader{paths: paths{"reference", "voucher", "amount", "code", "reason", "state"}}
}

func pointer(n int64) *int64 { return &n }

func TestOutcome(t *testing.T) {
	cut := &failure{code: "reset", reason: "connection reset by peer", wrote: true}
	for _, c := range []struct {
		name string
		a    answer
		want gift.Outcome
	}{
		{"empty", answer{status: 200}, gift.Granted{}},
		{"no content", answer{status: 204}, gift.Granted{}},
		{"blank", answer{status: 200, body: []byte(" \r\n")}, gift.Granted{}},
		{"full", answer{status: 201, body: []byte(`{"reference":"R","voucher":"V","amount":500,"more":[1]}`)},
			gift.Granted{Reference: "R", Voucher: "V", Amount: pointer(500)}},
		{"any JSON", answer{status: 200, body: []byte(`"ok"`)}, gift.Granted{}},
		{"html", answer{status: 200, body: []byte(`<html>`)}, gift.Unknown{Code: "unreadable", Reason: "200 OK: <html>"}},
		{"half", answer{status: 200, body: []byte(`{"reference":"R`)}, gift.Unknown{Code: "unreadable", Reason: `200 OK: {"reference":"R`}},
		{"two values", answer{status: 200, body: []byte(`{} {}`)}, gift.Unknown{Code: "unreadable", Reason: `200 OK: {} {}`}},
		{"not UTF-8", answer{status: 200, body: []byte("\"\xff\"")}, gift.Unknown{Code: "unreadable", Reason: "200 OK: \"�\""}},
		{"reference no text", answer{status: 200, body: []byte(`{"reference":[]}`)}, gift.Unknown{Code: "unreadable", Reason: `200 OK: {"reference":[]}`}},
		{"long", answer{status: 200, body: []byte(`{}`), long: true}, gift.Unknown{Code: "unreadable", Reason: "200 OK: {}"}},
		{"2xx cut", answer{status: 200, body: []byte(`{}`), cut: cut}, gift.Unknown{Code: "reset", Reason: "200 OK, then connection reset by peer"}},
		{"conflict", answer{status: 409, body: []byte(`{"reference":"R"}`)}, gift.Granted{Reference: "R", Before: true}},
		{"conflict unread", answer{status: 409, body: []byte(`no`)}, gift.Unknown{Code: "unreadable", Reason: "409 Conflict: no"}},
		{"refused", answer{status: 422, body: []byte(`{"code":"E7","reason":"not\nyours"}`)}, gift.Refused{Code: "E7", Reason: "not yours"}},
		{"refused number", answer{status: 400, body: []byte(`{"code":7}`)}, gift.Refused{Code: "7", Reason: `400 Bad Request: {"code":7}`}},
		{"refused bare", answer{status: 400}, gift.Refused{Code: "http_400", Reason: "400 Bad Request"}},
		{"refused text", answer{status: 400, body: []byte("no\x00pe")}, gift.Refused{Code: "http_400", Reason: "400 Bad Request: no pe"}},
		{"refused cut", answer{status: 400, cut: cut}, gift.Unknown{Code: "reset", Reason: "400 Bad Request, then connection reset by peer"}},
		{"busy", answer{status: 429, header: http.Header{"Retry-After": {"7"}}}, gift.Deferred{Code: "busy", Reason: "429 Too Many Requests", After: 7 * time.Second}},
		{"busy cut", answer{status: 503, cut: cut}, gift.Deferred{Code: "busy", Reason: "503 Service Unavailable"}},
		{"misconfigured", answer{status: 401, body: []byte(`{"code":"key","reason":"expired"}`)}, gift.Deferred{Code: "misconfigured", Reason: "key: expired"}},
		{"server error", answer{status: 500, body: []byte(`{"reason":"oops"}`)}, gift.Unknown{Code: "server_error", Reason: "oops"}},
		{"redirect", answer{status: 302}, gift.Unknown{Code: "unexpected_status", Reason: "302 Found"}},
		{"odd", answer{status: 799}, gift.Unknown{Code: "unexpected_status", Reason: "799"}},
	} {
		if got := plainReader().outcome(c.a); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v, want %#v", c.name, got, c.want)
		}
	}
}

func TestStanding(t *testing.T) {
	none := `{"state":"none"}`
	for _, c := range []struct {
		name string
		a    answer
		want Standing
	}{
		{"granted", answer{status: 200, body: []byte(`{"state":"granted","reference":"R","voucher":"V","amount":3}`)},
			Settled{gift.Granted{Reference: "R", Voucher: "V", Amount: pointer(3), Before: true}}},
		{"refused", answer{status: 200, body: []byte(`{"state":"refused","code":"E","reason":"no"}`)}, Settled{gift.Refused{Code: "E", Reason: "no"}}},
		{"refused bare", answer{status: 200, body: []byte(`{"state":"refused"}`)}, Settled{gift.Refused{Code: "refused", Reason: `200 OK: {"state":"refused"}`}}},
		{"pending", answer{status: 200, body: []byte(`{"state":"pending"}`)}, Pending{}},
		{"none", answer{status: 200, body: []byte(none)}, None{}},
		{"none by 404", answer{status: 404, body: []byte(none)}, None{}},
		{"bare 404", answer{status: 404}, Unanswered{Code: "misconfigured", Reason: "404 Not Found"}},
		{"granted by 404", answer{status: 404, body: []byte(`{"state":"granted"}`)}, Unanswered{Code: "misconfigured", Reason: `404 Not Found: {"state":"granted"}`}},
		{"other state", answer{status: 200, body: []byte(`{"state":"EXECUTED"}`)}, Unanswered{Code: "unreadable", Reason: `200 OK: {"state":"EXECUTED"}`}},
		{"no state", answer{status: 200, body: []byte(`{}`)}, Unanswered{Code: "unreadable", Reason: "200 OK: {}"}},
		{"empty", answer{status: 200}, Unanswered{Code: "unreadable", Reason: "200 OK"}},
		{"damaged reference", answer{status: 200, body: []byte(`{"state":"granted","reference":{}}`)}, Unanswered{Code: "unreadable", Reason: `200 OK: {"state":"granted","reference":{}}`}},
		{"none, cut", answer{status: 200, body: []byte(none), cut: &failure{code: "timeout", reason: "too slow"}}, Unanswered{Code: "timeout", Reason: "200 OK, then too slow"}},
		{"none, long", answer{status: 200, body: []byte(none), long: true}, Unanswered{Code: "unreadable", Reason: "200 OK: " + none}},
		{"none by 500", answer{status: 500, body: []byte(none)}, Unanswered{Code: "server_error", Reason: "500 Internal Server Error: " + none}},
		{"none by 302", answer{status: 302, body: []byte(none)}, Unanswered{Code: "unexpected_status", Reason: "302 Found: " + none}},
		{"busy", answer{status: 429, header: http.Header{"Retry-After": {"2"}}}, Unanswered{Code: "busy", Reason: "429 Too Many Requests", After: 2 * time.Second}},
		{"unauthorized", answer{status: 401}, Unanswered{Code: "misconfigured", Reason: "401 Unauthorized"}},
	} {
		if got := plainReader().standing(c.a); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v, want %#v", c.name, got, c.want)
		}
	}
}

func TestMapping(t *testing.T) {
	r := &reader{
		paths:    paths{"order.id", "order.codes.0", "order.cents", "error.no", "error.text", "order.status"},
		verdicts: map[int]verdict{202: saysUnknown, 404: saysRefused, 409: saysRefused},
		states:   map[string]string{"EXECUTED": "granted", "CART": "pending"},
	}
	body := []byte(`{"order":{"id":77,"codes":["V1","V2"],"cents":5,"status":"EXECUTED"},"error":{"no":"E1","text":"gone"}}`)
	granted := gift.Granted{Reference: "77", Voucher: "V1", Amount: pointer(5)}
	refused := gift.Refused{Code: "E1", Reason: "gone"}
	for status, want := range map[int]gift.Outcome{
		200: granted, 202: gift.Unknown{Code: "unexpected_status", Reason: "E1: gone"}, 404: refused, 409: refused,
	} {
		if got := r.outcome(answer{status: status, body: body}); !reflect.DeepEqual(got, want) {
			t.Errorf("%d: got %#v, want %#v", status, got, want)
		}
	}
	granted.Before = true
	if got, want := r.standing(answer{status: 200, body: body}), (Settled{granted}); !reflect.DeepEqual(got, want) {
		t.Errorf("query: got %#v, want %#v", got, want)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "3600": time.Hour, "3601": time.Hour,
		"99999999999999999999999": time.Hour, "9223372036854775807": time.Hour,
		"-5": 0, "1.5": 0, "soon": 0, "5s": 0,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Minute).Format(http.TimeFormat):     0,
		now.Add(24 * time.Hour).Format(http.TimeFormat):   time.Hour,
		"Mon, 01 Jan 0001 00:00:00 GMT":                   0,
		"Fri, 31 Dec 9999 23:59:59 GMT":                   time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// Whatever a partner sends, the answer is one outcome whose texts are fit for a
// log, and never says more than the status allows.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"reference":"R","amount":1}`), "5")
	f.Add(409, []byte(`{"voucher":1e999}`), "Fri, 31 Dec 9999 23:59:59 GMT")
	f.Add(422, []byte("{\"code\":\"\x00\",\"reason\":[\"\\u0000\"]}"), "")
	f.Add(404, []byte(`{"state":"none"}`), "-1")
	f.Add(200, []byte(strings.Repeat("[", 20000)), "")
	f.Fuzz(func(t *testing.T, status int, body []byte, after string) {
		r := plainReader()
		a := answer{status: status, body: body, header: http.Header{"Retry-After": {after}}}
		fit := func(limit int, texts ...string) {
			for _, s := range texts {
				if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
					t.Errorf("not fit for a log: %q", s)
				}
			}
		}
		pause := func(d time.Duration) {
			if d < 0 || d > time.Hour {
				t.Errorf("pause of %v", d)
			}
		}
		switch o := r.outcome(a).(type) {
		case gift.Granted:
			if status != 409 && (status < 200 || status > 299) {
				t.Errorf("%d became %#v", status, o)
			}
			fit(maxMark, o.Reference, o.Voucher)
		case gift.Refused:
			if status != 400 && status != 422 {
				t.Errorf("%d became %#v", status, o)
			}
			fit(maxCode, o.Code)
			fit(maxReason, o.Reason)
		case gift.Deferred:
			if status < 401 || status > 503 {
				t.Errorf("%d became %#v", status, o)
			}
			fit(maxReason, o.Code, o.Reason)
			pause(o.After)
		case gift.Unknown:
			fit(maxReason, o.Code, o.Reason)
		default:
			t.Errorf("no outcome: %#v", o)
		}
		switch s := r.standing(a).(type) {
		case Unanswered:
			fit(maxReason, s.Code, s.Reason)
			pause(s.After)
		case Settled, Pending, None:
			if status != 404 && (status < 200 || status > 299) {
				t.Errorf("%d became %#v", status, s)
			}
		default:
			t.Errorf("no standing: %#v", s)
		}
	})
}
