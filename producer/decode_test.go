package producer

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
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

// FuzzDecode holds the decoder against encoding/json: whatever is taken is valid
// JSON and reads the same there.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"campaign":"spring","scene":"rain","stage":"s","gift":"g","user":"u","platform":"ios","target":{"wallet":"w"}}`,
		`{"campaign":"a\u00e9\ud83d\ude00","target":{"a":[1,-2.5e3,true,false,null,"x",{}]}}`,
		`{"user":"a","user":"b"}`, `{"campaign":7}`, `{`, ``, "{\"user\":\"\xff\"}", `{"target":{"a":1,"a":2}}`, `{"claims":[{"user":"u"},{"campaign":"c"}]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if req, err := decodeRequest(body); err == nil {
			same(t, body, req)
		}
		if reqs, err := decodeBatch(body, 10); err == nil {
			var all struct{ Claims []json.RawMessage }
			if err := json.Unmarshal([]byte(body), &all); err != nil || len(all.Claims) != len(reqs) {
				t.Fatalf("%q: %d claims, %v; got %d", body, len(all.Claims), err, len(reqs))
			}
			for i, one := range all.Claims {
				same(t, string(one), reqs[i])
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
