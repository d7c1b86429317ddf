package s3_test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog/bucket"
)

// fake is a server that speaks as much S3 as the engine asks for, and less where it is
// told to. It knows one bucket, and no signatures.
type fake struct {
	addr string

	mu           sync.Mutex
	objects      map[string][]byte
	times        int // counts what was stored, for tags
	tags         map[string]string
	noConditions bool   // answers 501 to a condition
	noChecksums  bool   // keeps none
	rots         bool   // keeps another content than it was sent
	refuse       string // a code that it answers to everything
	refuseStatus int
	failing      int // so many requests to come fail with 503
	asked        []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	f := &fake{objects: make(map[string][]byte), tags: make(map[string]string)}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	f.addr = strings.TrimPrefix(s.URL, "http://")
	return f
}

func (f *fake) url() string { return "s3://fake/pre/fix?endpoint=http://" + f.addr }

// set changes what it does, between requests.
func (f *fake) set(do func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f)
}

func (f *fake) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	bucketName, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	f.asked = append(f.asked, r.Method+" "+key)
	switch {
	case err != nil:
		f.say(rw, http.StatusBadRequest, "IncompleteBody")
	case f.failing > 0:
		f.failing--
		f.say(rw, http.StatusServiceUnavailable, "SlowDown")
	case f.refuse != "":
		f.say(rw, f.refuseStatus, f.refuse)
	case bucketName != "fake":
		f.say(rw, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet && key == "":
		f.list(rw, r)
	case r.Method == http.MethodPut:
		f.put(rw, r, key, body)
	case r.Method == http.MethodDelete:
		delete(f.objects, key)
		rw.WriteHeader(http.StatusNoContent)
	default:
		f.get(rw, r, key)
	}
}

func (f *fake) say(rw http.ResponseWriter, status int, code string) {
	rw.WriteHeader(status)
	fmt.Fprintf(rw, "<Error><Code>%s</Code><Message>as told</Message></Error>", code)
}

func (f *fake) put(rw http.ResponseWriter, r *http.Request, key string, body []byte) {
	sum := bucket.SumOf(body)
	_, there := f.objects[key]
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case f.noConditions && match+none != "":
		f.say(rw, http.StatusNotImplemented, "NotImplemented")
		return
	case none == "*" && there, match != "" && (!there || match != `"`+f.tags[key]+`"`):
		f.say(rw, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	case r.Header.Get("X-Amz-Content-Sha256") != sum.String():
		f.say(rw, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		return
	case !f.noChecksums && r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]):
		f.say(rw, http.StatusBadRequest, "BadDigest")
		return
	}
	if f.rots && len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	f.times++
	f.objects[key], f.tags[key] = body, strconv.Itoa(f.times)
	rw.Header().Set("ETag", `"`+f.tags[key]+`"`)
}

func (f *fake) get(rw http.ResponseWriter, r *http.Request, key string) {
	b, there := f.objects[key]
	if !there {
		f.say(rw, http.StatusNotFound, "NoSuchKey")
		return
	}
	rw.Header().Set("ETag", `"`+f.tags[key]+`"`)
	if sum := bucket.SumOf(b); !f.noChecksums && r.Header.Get("X-Amz-Checksum-Mode") != "" {
		rw.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	}
	http.ServeContent(rw, r, "", time.Unix(1e9, 0), strings.NewReader(string(b)))
}

// list answers in pages of 400.
func (f *fake) list(rw http.ResponseWriter, r *http.Request) {
	type object struct {
		Key          string
		Size         int
		LastModified string
	}
	type folder struct{ Prefix string }
	answer := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []object
		CommonPrefixes        []folder
	}{}
	q := r.URL.Query()
	prefix, last := q.Get("prefix"), q.Get("continuation-token")
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		rest, ok := strings.CutPrefix(key, prefix)
		shown := key
		if name, _, deep := strings.Cut(rest, "/"); deep && q.Get("delimiter") == "/" {
			shown = prefix + name + "/"
		}
		if !ok || shown <= last {
			continue
		}
		if len(answer.Contents)+len(answer.CommonPrefixes) == 400 {
			answer.IsTruncated, answer.NextContinuationToken = true, last
			break
		}
		if last = shown; shown != key {
			answer.CommonPrefixes = append(answer.CommonPrefixes, folder{shown})
		} else {
			answer.Contents = append(answer.Contents, object{key, len(f.objects[key]), "2027-02-05T12:00:00Z"})
		}
	}
	_ = xml.NewEncoder(rw).Encode(&answer)
}
