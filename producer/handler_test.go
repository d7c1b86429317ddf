package producer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func TestClaimOverHTTP(t *testing.T) {
	f := openFixture(t)
	const body = `{"campaign":"show","scene":"second","gift":"pack","platform":"ios","user":"u1","target":{"wallet":"w"}}`
	r := f.call("POST", "/v1/claims", body)
	want(t, "status", r.status, 202)
	id := gift.NewCampaignID("show").ClaimID("second", "u1", "")
	receipt := f.receipts.of(&gift.Claim{ID: id, Gift: "pack", ClaimedAt: f.clock.now()})
	orders := fmt.Sprintf(`"orders":[{"order_id":"%v","item":"vip","state":"%%s"},{"order_id":"%v","item":"coin","state":"%%s"}]`, id.OrderID("vip"), id.OrderID("coin"))
	read := func(state string, duplicate bool, vip, coin string) string {
		return fmt.Sprintf(`{"claim_id":"%v","state":%q,"duplicate":%t,"gift":"pack",%s,"deliver_by":"2027-02-07T12:01:00Z","receipt":%q}`,
			id, state, duplicate, fmt.Sprintf(orders, vip, coin), receipt)
	}
	want(t, "answer", r.text, read("accepted", false, "accepted", "accepted"))
	r = f.call("POST", "/v1/claims", body)
	want(t, "status of the repeat", r.status, 200)
	want(t, "answer to the repeat", r.text, read("accepted", true, "accepted", "accepted"))

	claim, err := f.Read(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f.event(fallbacklog.Granted, claim.Claim, 0, func(e *fallbacklog.Event) { e.Reference = "m-1"; e.Voucher = "V" })
	due := f.clock.now().Add(time.Minute)
	f.event(fallbacklog.Deferred, claim.Claim, 1, func(e *fallbacklog.Event) { e.Code, e.Reason, e.Due = "busy", "come again", due })
	r = f.call("GET", "/v1/claims/"+id.String(), "")
	want(t, "claim read", r.text, read("accepted", false, "granted", "deferred"))
	r = f.call("GET", "/v1/orders/"+id.OrderID("vip").String(), "")
	want(t, "granted order", r.text, fmt.Sprintf(`{"order_id":"%v","claim_id":"%v","campaign":"show","scene":"second","user":"u1","gift":"pack","item":"vip","partner":"midas",`+
		`"state":"granted","attempts":1,"reference":"m-1","voucher":"V","claimed_at":"2027-02-05T12:01:00Z","updated_at":"2027-02-05T12:01:00Z"}`, id.OrderID("vip"), id))
	r = f.call("GET", "/v1/orders/"+id.OrderID("coin").String(), "")
	want(t, "deferred order", r.body["next_attempt_at"], any("2027-02-05T12:02:00Z"))
	want(t, "its code", r.body["code"], any("busy"))
	f.event(fallbacklog.Refused, claim.Claim, 1)
	r = f.call("POST", "/v1/claims", body)
	want(t, "settled claim", r.text, read("settled", true, "granted", "refused"))
}

func TestBadInput(t *testing.T) {
	f := openFixture(t)
	const claims = "/v1/claims"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     gift.Code
		field                    string
	}{
		{"empty body", "POST", claims, ``, 400, gift.BadRequest, ""},
		{"no object", "POST", claims, `[]`, 400, gift.BadRequest, ""},
		{"no JSON", "POST", claims, `campaign=spring`, 400, gift.BadRequest, ""},
		{"cut off", "POST", claims, `{"campaign":"spring"`, 400, gift.BadRequest, ""},
		{"trailing data", "POST", claims, `{"campaign":"spring","user":"u"} {}`, 400, gift.BadRequest, ""},
		{"trailing NUL", "POST", claims, "{\"campaign\":\"spring\",\"user\":\"u\"}\x00", 400, gift.BadRequest, ""},
		{"unknown field", "POST", claims, `{"campaign":"spring","user":"u","Scene":"rain"}`, 400, gift.BadRequest, "Scene"},
		{"duplicate key", "POST", claims, `{"campaign":"spring","user":"u","user":"v"}`, 400, gift.BadRequest, "user"},
		{"duplicate key, escaped", "POST", claims, `{"campaign":"spring","user":"u","u\u0073er":"v"}`, 400, gift.BadRequest, "user"},
		{"number for a string", "POST", claims, `{"campaign":7,"user":"u"}`, 400, gift.BadRequest, "campaign"},
		{"null for a string", "POST", claims, `{"campaign":"spring","user":"u","scene":null}`, 400, gift.BadRequest, "scene"},
		{"empty string", "POST", claims, `{"campaign":"spring","user":"u","scene":""}`, 400, gift.BadRequest, "scene"},
		{"string for an object", "POST", claims, `{"campaign":"spring","user":"u","target":"w"}`, 400, gift.BadRequest, "target"},
		{"duplicate key in target", "POST", claims, `{"campaign":"spring","user":"u","target":{"a":1,"a":2}}`, 400, gift.BadRequest, "target"},
		{"target too long", "POST", claims, `{"campaign":"spring","user":"u","target":{"a":"` + strings.Repeat("x", gift.MaxTarget) + `"}}`, 400, gift.BadRequest, "target"},
		{"target too deep", "POST", claims, `{"campaign":"spring","user":"u","target":{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`, 400, gift.BadRequest, "target"},
		{"invalid UTF-8", "POST", claims, "{\"campaign\":\"spring\",\"user\":\"\xff\"}", 400, gift.BadRequest, "user"},
		{"lone surrogate", "POST", claims, `{"campaign":"spring","user":"\ud800"}`, 400, gift.BadRequest, "user"},
		{"invisible user", "POST", claims, `{"campaign":"spring","user":"a\u202eb"}`, 400, gift.BadRequest, "user"},
		{"invisible campaign", "POST", claims, `{"campaign":"spri\u200bng","user":"u"}`, 400, gift.BadRequest, "campaign"},
		{"invisible scene", "POST", claims, `{"campaign":"spring","user":"u","scene":"rain\u2066"}`, 400, gift.BadRequest, "scene"},
		{"invisible stage", "POST", claims, `{"campaign":"spring","user":"u","stage":"\u2028"}`, 400, gift.BadRequest, "stage"},
		{"invisible gift", "POST", claims, `{"campaign":"spring","user":"u","gift":"cash\u00ad"}`, 400, gift.BadRequest, "gift"},
		{"invisible platform", "POST", claims, `{"campaign":"spring","user":"u","platform":"i\u200dos"}`, 400, gift.BadRequest, "platform"},
		{"invisible user in the path", "GET", "/v1/users/a%E2%80%AEb/claims", ``, 400, gift.BadRequest, "user"},
		{"NUL in user", "POST", claims, `{"campaign":"spring","user":"a\u0000b"}`, 400, gift.BadRequest, "user"},
		{"raw control character", "POST", claims, "{\"campaign\":\"spring\",\"user\":\"a\nb\"}", 400, gift.BadRequest, "user"},
		{"no user", "POST", claims, `{"campaign":"spring"}`, 400, gift.BadRequest, "user"},
		{"user too long", "POST", claims, `{"campaign":"spring","user":"` + strings.Repeat("u", 129) + `"}`, 400, gift.BadRequest, "user"},
		{"10 MB", "POST", claims, `{"campaign":"` + strings.Repeat("x", 10<<20) + `"}`, 413, gift.BadRequest, ""},
		{"unknown campaign", "POST", claims, `{"campaign":"winter","user":"u"}`, 404, gift.CampaignUnknown, "campaign"},
		{"not open", "POST", claims, `{"campaign":"later","user":"u"}`, 403, gift.CampaignNotOpen, ""},
		{"closed", "POST", claims, `{"campaign":"over","user":"u"}`, 403, gift.CampaignClosed, ""},
		{"id that is none", "GET", "/v1/claims/7", ``, 400, gift.BadRequest, "id"},
		{"order id that is none", "GET", "/v1/orders/..%2f", ``, 400, gift.BadRequest, "id"},
		{"unknown claim", "GET", "/v1/claims/00000000-0000-0000-0000-000000000000", ``, 404, gift.NotFound, ""},
		{"unknown order", "GET", "/v1/orders/00000000-0000-0000-0000-000000000000", ``, 404, gift.NotFound, ""},
		{"settle of an unknown claim", "POST", "/v1/claims/00000000-0000-0000-0000-000000000000/settle", ``, 404, gift.NotFound, ""},
		{"NUL in the path's user", "GET", "/v1/users/a%00b/claims", ``, 400, gift.BadRequest, "user"},
		{"limit that is none", "GET", "/v1/users/u/claims?limit=0", ``, 400, gift.BadRequest, "limit"},
		{"cursor that is none", "GET", "/v1/users/u/claims?before=x", ``, 400, gift.BadRequest, "before"},
		{"unknown path", "GET", "/v2/claims", ``, 404, gift.NotFound, ""},
		{"wrong method", "DELETE", claims, ``, 405, gift.BadRequest, ""},
		{"wrong method on an id", "PUT", "/v1/orders/x", ``, 405, gift.BadRequest, ""},
		{"batch without claims", "POST", "/v1/claims/batch", `{}`, 400, gift.BadRequest, "claims"},
		{"batch that is empty", "POST", "/v1/claims/batch", `{"claims":[]}`, 400, gift.BadRequest, "claims"},
		{"batch with another field", "POST", "/v1/claims/batch", `{"claim":[]}`, 400, gift.BadRequest, "claim"},
		{"batch that is no array", "POST", "/v1/claims/batch", `{"claims":{}}`, 400, gift.BadRequest, "claims"},
		{"batch twice", "POST", "/v1/claims/batch", `{"claims":[{"user":"u"}],"claims":[]}`, 400, gift.BadRequest, "claims"},
		{"batch with a claim that is no JSON", "POST", "/v1/claims/batch", `{"claims":[{"user":"u"},{"user":"\x"}]}`, 400, gift.BadRequest, "claims[1].user"},
		{"batch that ends in a bad claim", "POST", "/v1/claims/batch", `{"claims":[{"user":"u"},{"user":7}`, 400, gift.BadRequest, ""},
		{"batch with too many bad ones", "POST", "/v1/claims/batch", `{"claims":[` + strings.Repeat(`{"user":7},`, 1000) + `{"user":"u"}]}`, 400, gift.BadRequest, "claims"},
		{"batch with too many", "POST", "/v1/claims/batch", `{"claims":[` + strings.Repeat(`{"user":"u"},`, 1000) + `{"user":"u"}]}`, 400, gift.BadRequest, "claims"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.call(c.method, c.path, c.body)
			field, _ := r.body["field"].(string)
			if r.status != c.status || r.code() != string(c.code) || field != c.field {
				t.Errorf("got %d %s, want %d %s %q", r.status, r.text, c.status, c.code, c.field)
			}
		})
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), 0)
	r := f.call("DELETE", claims, "")
	want(t, "Allow", r.header.Get("Allow"), "POST")
}

func TestBodyOfUnknownLength(t *testing.T) {
	f := openFixture(t)
	for body, status := range map[string]int{
		`{"campaign":"spring","user":"u"}`:                202,
		`{"campaign":"` + strings.Repeat("x", 70<<10):     413,
		strings.Repeat(" ", 64<<10):                       400,
		`{"campaign":"spring","user":"unterminated"` + "": 400,
	} {
		reader := struct{ *strings.Reader }{strings.NewReader(body)} // hides the length
		r, err := http.NewRequest("POST", "http://x/v1/claims", reader)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = -1
		w := &recorder{header: http.Header{}}
		f.http.ServeHTTP(w, r)
		want(t, fmt.Sprintf("%.20s", body), w.status, status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }

func TestBatchOverHTTP(t *testing.T) {
	f := openFixture(t)
	f.claim(Request{Campaign: "spring", User: "known"})
	r := f.call("POST", "/v1/claims/batch", `{"claims":[{"campaign":"spring","user":"a"},{"campaign":"spring","user":"known"},{"campaign":"winter","user":"a"}]}`)
	want(t, "status", r.status, 200)
	for i, status := range []float64{202, 200, 404} {
		want(t, "status of a claim", r.body["answers"].([]any)[i].(map[string]any)["status"], any(status))
	}
}

func TestBadClaimsOfABatchBlockNoOther(t *testing.T) {
	f := openFixture(t)
	bad := []struct{ claim, field string }{
		{`{"campaign":"spring","user":""}`, "user"},
		{`{"campaign":"spring"}`, "user"},
		{`{"campaign":"spring","user":"` + strings.Repeat("u", 129) + `"}`, "user"},
		{`{"campaign":"spring","user":"u","target":{"a":"` + strings.Repeat("x", gift.MaxTarget) + `"}}`, "target"},
		{`{"campaign":"spring","user":"u","usr":"u"}`, "usr"},
		{`[]`, ""},
	}
	claims := []string{`{"campaign":"spring","user":"first"}`}
	for i, b := range bad {
		claims = append(claims, b.claim, fmt.Sprintf(`{"campaign":"spring","user":"u%d"}`, i))
	}
	r := f.call("POST", "/v1/claims/batch", `{"claims":[`+strings.Join(claims, ",")+`]}`)
	want(t, "status", r.status, 200)
	answers := r.body["answers"].([]any)
	want(t, "answers", len(answers), len(claims))
	for i := range answers {
		answer := answers[i].(map[string]any)
		if i%2 == 0 {
			want(t, claims[i], answer["status"], any(202.0))
			continue
		}
		// As by itself.
		alone := f.call("POST", "/v1/claims", claims[i])
		want(t, "by itself", alone.status, 400)
		want(t, "status", answer["status"], any(400.0))
		problem := answer["problem"].(map[string]any)
		for _, member := range []string{"code", "detail", "field"} {
			want(t, member, problem[member], alone.body[member])
		}
		field, _ := problem["field"].(string)
		want(t, "field", field, bad[i/2].field)
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), len(bad)+1)
	r = f.call("POST", "/v1/claims/batch", `{"claims":[{"user":7}]}`)
	want(t, "status of a batch of nothing but a bad one", r.status, 200)
}

// userIndex is a ledger that knows one claim.
type userIndex struct {
	ids  []gift.ClaimID
	asOf time.Time
	err  error
}

func (u *userIndex) UserClaims(context.Context, string, int) ([]gift.ClaimID, time.Time, error) {
	return u.ids, u.asOf, u.err
}

func TestUserClaims(t *testing.T) {
	ledger := &userIndex{}
	f := openFixture(t, func(o *Options) { o.Users = ledger })
	var ids []string
	for _, stage := range []string{"s1", "s2"} {
		ids = append([]string{f.claim(Request{Campaign: "show", Scene: "first", Stage: stage, Gift: "pad", Platform: "ios", User: "ü/1"}).Claim.ID.String()}, ids...)
	}
	gone := f.claim(Request{Campaign: "spring", User: "ü/1"})
	ids = append([]string{gone.Claim.ID.String()}, ids...)
	other := f.claim(Request{Campaign: "spring", User: "another"})
	list := func(query string) ([]string, reply) {
		t.Helper()
		r := f.call("GET", "/v1/users/"+url.PathEscape("ü/1")+"/claims"+query, "")
		want(t, "status", r.status, 200)
		var got []string
		for _, c := range r.body["claims"].([]any) {
			got = append(got, c.(map[string]any)["claim_id"].(string))
		}
		return got, r
	}
	same := func(got, want []string) {
		t.Helper()
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got %v\nwant %v", got, want)
		}
	}
	got, r := list("")
	same(got, ids)
	want(t, "user", r.body["user"], any("ü/1"))
	got, r = list("?limit=2")
	same(got, ids[:2])
	got, r = list("?limit=2&before=" + r.body["next"].(string))
	same(got, ids[2:])
	if r.body["next"] != nil {
		t.Error("a page follows the last one")
	}
	// A campaign that is configured no more is found through the ledger alone.
	f.Reload(compileCampaigns(t, testCampaigns()[1]))
	got, _ = list("")
	same(got, ids[1:])
	ledger.ids, ledger.asOf = []gift.ClaimID{gone.Claim.ID, {9}}, f.clock.now()
	got, r = list("")
	same(got, ids)
	want(t, "as of", r.body["as_of"], any("2027-02-05T12:01:00Z"))
	// A claim that the index has lost meanwhile still tells where its page begins.
	ledger.ids = nil
	got, _ = list("?before=" + gone.Claim.ID.String())
	same(got, ids[1:])
	for _, before := range []string{gift.ClaimID{9}.String(), other.Claim.ID.String()} {
		r = f.call("GET", "/v1/users/"+url.PathEscape("ü/1")+"/claims?before="+before, "")
		want(t, "status behind "+before, r.status, 400)
		want(t, "its field", r.body["field"], any("before"))
	}
	ledger.err = errors.New("locked")
	r = f.call("GET", "/v1/users/u/claims", "")
	want(t, "status without the ledger", r.status, 503)
	want(t, "code without the ledger", r.code(), string(gift.Unavailable))
	if detail := r.body["detail"].(string); r.header.Get("Retry-After") == "" || !strings.Contains(detail, "rebuilt") || strings.Contains(detail, "locked") {
		t.Errorf("without the ledger: got %s", r.text)
	}
}

func TestSettle(t *testing.T) {
	f := openFixture(t)
	a := f.claim(Request{Campaign: "show", Scene: "second", Gift: "pack", Platform: "ios", User: "u1"})
	f.event(fallbacklog.Granted, a.Claim, 0)
	f.event(fallbacklog.Unknown, a.Claim, 1, func(e *fallbacklog.Event) { e.Code, e.Attempts, e.Began = "timeout", 3, f.clock.now() })
	path := "/v1/claims/" + a.Claim.ID.String() + "/settle"
	r := f.call("POST", path, "")
	want(t, "status", r.status, 202)
	if len(f.sent.sent) != 1 {
		t.Fatalf("sent %+v", f.sent.sent)
	}
	m := f.sent.sent[0]
	want(t, "order sent", m.Order.ID, a.Claim.Orders[1].ID)
	want(t, "attempts", m.Attempts, 3)
	want(t, "in doubt", m.InDoubt, true)
	want(t, "began", m.Began, f.clock.now())
	want(t, "reissued records", len(f.records(fallbacklog.Reissued)), 1)
	r = f.call("GET", "/v1/orders/"+m.Order.ID.String(), "")
	want(t, "state", r.body["state"], any("unknown"))
	want(t, "code", r.body["code"], any("timeout"))

	r = f.call("POST", path, "")
	want(t, "status at once again", r.status, 429)
	want(t, "Retry-After", r.header.Get("Retry-After"), "30")
	f.clock.move(30 * time.Second)
	f.event(fallbacklog.Attempted, a.Claim, 1)
	r = f.call("POST", path, "")
	want(t, "status with an attempt under way", r.status, 200)
	f.event(fallbacklog.Deferred, a.Claim, 1)
	f.sent.err = errors.New("no queue")
	want(t, "status without the queue", f.call("POST", path, "").status, 503)
	f.sent.err = nil
	f.clock.move(30 * time.Second)
	f.event(fallbacklog.Parked, a.Claim, 1)
	r = f.call("POST", path, "")
	want(t, "status once settled", r.status, 200)
	want(t, "state of the claim", r.body["state"], any("settled"))
	want(t, "messages", len(f.sent.sent), 1)
}

func TestOpenAPIIsServed(t *testing.T) {
	f := openFixture(t)
	r := f.call("GET", "/openapi.json", "")
	want(t, "status", r.status, 200)
	want(t, "version", r.body["openapi"], any("3.1.0"))
}
