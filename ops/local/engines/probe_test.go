package engines

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
	"time"
)

func frame(total, header uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, total)
	return append(binary.BigEndian.AppendUint32(b, header), rest...)
}

func TestReadRemoting(t *testing.T) {
	header := `{"code":17,"remark":"no route"}`
	n := uint32(len(header))
	got, err := readRemoting(bytes.NewReader(frame(4+n+4, n, header+"body")))
	if err != nil || got.Code != 17 || got.Remark != "no route" || string(got.body) != "body" {
		t.Errorf("got %+v, %v; want code 17, its remark and the body", got, err)
	}
	for name, damaged := range map[string][]byte{
		"nothing":              nil,
		"half a frame":         frame(4+n+4, n, header),
		"a header beyond it":   frame(4+n, n+1, header),
		"a frame without room": frame(3, 0, ""),
		"a frame too large":    frame(largestFrame+1, n, header),
		"not JSON":             frame(4+4, 4, "HTTP"),
	} {
		if got, err := readRemoting(bytes.NewReader(damaged)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

// The signature covers the path, the query, the host and the time.
func TestSignaturesDiffer(t *testing.T) {
	noon := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	seen := make(map[string]string)
	for name, request := range map[string]struct {
		url string
		at  time.Time
	}{
		"plain":         {"http://127.0.0.1:1/manna?list-type=2", noon},
		"another path":  {"http://127.0.0.1:1/other?list-type=2", noon},
		"another query": {"http://127.0.0.1:1/manna?list-type=1", noon},
		"another host":  {"http://127.0.0.1:2/manna?list-type=2", noon},
		"another time":  {"http://127.0.0.1:1/manna?list-type=2", noon.Add(time.Second)},
	} {
		req, err := http.NewRequest(http.MethodGet, request.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		sign(req, request.at)
		_, signature, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
		if other, ok := seen[signature]; ok || len(signature) != 64 {
			t.Errorf("%s has the signature %q of %q, want one of its own", name, signature, other)
		}
		seen[signature] = name
	}
}
