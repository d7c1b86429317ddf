package producer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"manna/gift"
)

func TestDecodeKeepsWhatItReads(t *testing.T) {
	req, err := decodeRequest(" {\t\"campaign\" : \"spring\", \"user\":\"a\\u00e9\\ud83d\\ude00\\n\\/ü\",\r\n\"target\": {\"a\":[1,-0.5e+3,true,null,{\"a\":{}}],\"b\":\"\\\"\"} } ")
	if err != nil {
		t.Fatal(err)
	}
	want(t, "campaign", req.Campaign, "spring")
	want(t, "user", req.User, "aé😀\n/ü")
	want(t, "target", string(req.Target), `{"a":[1,-0.5e+3,true,null,{"a":{}}],"b":"\""}`)
}

func TestStrictJSON(t *testing.T) {
	for _, target := range []string{
		`{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":-}`, `{"a":NaN}`, `{"a":tru}`, `{"a":nul}`, `{"a":'x'}`, `{a:1}`, `{"a" 1}`,
		`{"a":1,}`, `{,}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"\u+123"}`,
		`{"a":"\udc00"}`, `{"a":"\ud800\u0041"}`, `{"a":"\ud800"}`, "{\"a\":\"\t\"}", "{\"a\":\"\xc3\"}", "{\"a\":\"\\n\xc3\"}", `{"a":1}}`, `{"a":{"b":1,"\u0062":2}}`, "\ufeff{}", `{"a":1 /* c */}`,
	} {
		if err := checkTarget([]byte(target)); err == nil {
			t.Errorf("%s is taken", target)
		}
	}
	deep := strings.Repeat(`{"a":`, maxDepth-1) + `1` + strings.Repeat(`}`, maxDepth-1)
	if err := checkTarget([]byte(deep)); err != nil {
		t.Errorf("%d levels: %v", maxDepth-1, err)
	}
}

// What is wrong with one claim is said of it alone, as long as it can be told where it
// ends.
func TestBadClaimsOfABatch(t *testing.T) {
	const good = `{"campaign":"spring","user":"u","target":{"a":[1]}}`
	long := strings.Repeat("x", gift.MaxTarget)
	for claim, field := range map[string]string{
		`{"user":""}`: "user", `{"user":7}`: "user", `{"user":null}`: "user", `{"user":"a","user":"b"}`: "user", `{"users":{"a":[{"b":[]},"}]"],"a":1}}`: "users",
		`{"target":{"a":"` + long + `"}}`: "target", `{"target":[]}`: "target", `{"target":{"a":1,"a":2}}`: "target",
		`{"target":` + strings.Repeat(`{"a":`, maxDepth) + `1` + strings.Repeat(`}`, maxDepth) + `}`: "target",
		`7`: "", `null`: "", `[[{}],[]]`: "", `"}"`: "", `-0.5e+3`: "",
	} {
		reqs, refused, err := decodeBatch(`{"claims":[`+good+`, `+claim+" ,"+good+`]}`, 3)
		if err != nil || len(reqs) != 3 || len(refused) != 1 {
			t.Errorf("%.60s: %d claims, refused %v, %v", claim, len(reqs), refused, err)
			continue
		}
		for _, i := range []int{0, 2} {
			same(t, good, reqs[i])
		}
		_, alone := decodeRequest(claim)
		told, ok := refused[1].(*gift.Error)
		if !ok || told.Code != gift.BadRequest || told.Field != field || alone == nil {
			t.Errorf("%.60s: %v, by itself %v", claim, refused[1], alone)
		}
	}
	for _, claim := range []string{
		`{"user":"u"`, `{"user":}`, `{"x":7,"y":,{"user":"u"}`, `{"x":[1,]}`, `{"x":[1 2]}`, `{"x":{"a":1,}}`, `{"x":{a:1}}`, `{"user":7,}`, `{"user":"\x"}`, "{\"user\":\"\xff\"}", `{"x":tru}`, `{"user":"u`, `x`, ``,
		`{"x":` + strings.Repeat("[", maxPassed) + strings.Repeat("]", maxPassed) + `}`,
	} {
		if reqs, refused, err := decodeBatch(`{"claims":[`+good+`,`+claim+`]}`, 3); err == nil {
			t.Errorf("%.60q: got %v, refused %v", claim, reqs, refused)
		}
	}
}

// However long what is passed over is, it takes its time once.
func TestPassingManyKeys(t *testing.T) {
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	began := time.Now()
	if _, refused, err := decodeBatch(`{"claims":[{"x":{`+b.String()[1:]+`}}]}`, 1); err != nil || len(refused) != 1 {
		t.Errorf("refused %v, %v", refused, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// FuzzDecode holds the decoder against encoding/json: whatever is taken is valid
// JSON and reads the same there.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"campaign":"spring","scene":"rain","stage":"s","gift":"g","user":"u","platform":"ios","target":{"wallet":"w"}}`,
		`{"campaign":"a\u00e9\ud83d\ude00","target":{"a":[1,-2.5e3,true,false,null,"x",{}]}}`,
		`{"user":"a","user":"b"}`, `{"campaign":7}`, `{`, ``, "{\"user\":\"\xff\"}", `{"target":{"a":1,"a":2}}`, `{"claims":[{"user":"u"},{"campaign":"c"}]}`,
		`{"claims":[{"user":"u"},{"user":7,"x":[{},[],{"a":[1,{"a":1,"a":2}]}]},7,{"user":"u","user":"v"},{"target":{"a":1,"a":2}}, {"user":""} ]}`, `{"claims":[{"x":[1,]}]}`, `{"claims":[{"user":7}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if req, err := decodeRequest(body); err == nil {
			same(t, body, req)
		}
		if reqs, refused, err := decodeBatch(body, 10); err == nil {
			var all struct{ Claims []json.RawMessage }
			if err := json.Unmarshal([]byte(body), &all); err != nil || len(all.Claims) != len(reqs) {
				t.Fatalf("%q: %d claims, %v; got %d", body, len(all.Claims), err, len(reqs))
			}
			for i, one := range all.Claims {
				if refused[i] == nil {
					same(t, string(one), reqs[i])
				} else if _, err := decodeRequest(string(one)); err == nil {
					t.Fatalf("%q is refused in a batch (%v), and not by itself", one, refused[i])
				}
			}
		}
	})
}

// same compares a decoded request with what encoding/json makes of its text.
func same(t *testing.T, body string, got Request) {
	t.Helper()
	var w Request
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		t.Fatalf("%q is taken, but: %v", body, err)
	}
	if got.Campaign != w.Campaign || got.Scene != w.Scene || got.Stage != w.Stage || got.Gift != w.Gift || got.User != w.User || got.Platform != w.Platform || !bytes.Equal(got.Target, w.Target) {
		t.Fatalf("%q\ngot  %+v\nwant %+v", body, got, w)
	}
}
