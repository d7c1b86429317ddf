package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"manna/gift"
	"manna/ledger"
)

// openShared opens a console of a cluster.
func openShared(t *testing.T) (*desk, *shared) {
	t.Helper()
	s := &shared{now: time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)}
	s.nodes = []ledger.Node{
		{Name: "a", State: ledger.NodeUp, Epoch: 2, Seen: s.now, LogEnd: 7},
		{Name: "b", State: ledger.NodeLeft, Epoch: 1, Seen: s.now.Add(-time.Hour), LogEnd: 9, Ended: true},
	}
	s.lags = []ledger.Lag{{Node: "b", Position: 8, AsOf: s.now.Add(-time.Hour)}}
	return openDesk(t, func(o *Options) { o.Cluster = s }), s
}

func TestNodesAreListed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*shared)
		status int
		code   gift.Code
		words  []string
	}{
		"all is well": {func(*shared) {}, http.StatusOK, "", []string{
			`"node":"a","state":"up","epoch":2`, `"node":"b","state":"left"`, `"ended":true`, `"now":"2027-02-05T12:00:00Z"`, `"behind":[{"node":"b","position":"0:8","as_of":"2027-02-05T11:00:00Z"}]`}},
		"the register does not answer": {func(s *shared) { s.fail = errServer }, http.StatusServiceUnavailable, gift.Unavailable, []string{"the register of nodes does not answer", "connection refused"}},
		"nor how far the ledger is":    {func(s *shared) { s.lagging = errServer }, http.StatusServiceUnavailable, gift.Unavailable, []string{"connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, s := openShared(t)
			c.change(s)
			r := d.call(c.status, "GET", "/v1/admin/nodes", "")
			same(t, "code", r.code(), string(c.code))
			says(t, "nodes", r.text, c.words...)
			if c.status != http.StatusOK && r.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

func TestDeedsToNodes(t *testing.T) {
	away := func(s *shared) { s.fail = errServer }
	for name, c := range map[string]struct {
		change       func(*shared)
		path, body   string
		status       int
		code         gift.Code
		field, words string
		done, audit  []string
	}{
		"lose one that is up": {
			path: "a/lose", body: `{"why":"burnt","who":"ana"}`, status: http.StatusOK, words: `"nodes":[{"node":"a"`, done: []string{"lose a by ana"},
			audit: []string{"ana node lose a (burnt): begun", "ana node lose a (burnt): done"}},
		"retire one that has left": {
			path: "b/retire", body: `{"why":"taken in"}`, status: http.StatusOK, words: `"behind"`, done: []string{"retire b by admin"},
			audit: []string{"admin node retire b (taken in): begun", "admin node retire b (taken in): done"}},
		"retire one that is up": {
			path: "a/retire", body: `{"why":"x"}`, status: http.StatusBadRequest, code: gift.BadRequest, field: "name", words: "node a is up",
			audit: []string{"admin node retire a (x): begun", "admin node retire a (x): node a is up: " + ledger.ErrHeld.Error()}},
		"one that there is not": {
			path: "c/lose", body: `{"why":"x"}`, status: http.StatusNotFound, code: gift.NotFound, words: "manna node",
			audit: []string{"admin node lose c (x): begun", "admin node lose c (x): node c: " + ledger.ErrNotFound.Error()}},
		"without a reason":            {path: "a/lose", body: `{"why":" "}`, status: http.StatusBadRequest, code: gift.BadRequest, field: "why", words: "is missing"},
		"with a body that is not one": {path: "a/lose", body: `{"because":"x"}`, status: http.StatusBadRequest, code: gift.BadRequest, words: "because"},
		"what cannot be done":         {path: "a/praise", body: `{"why":"x"}`, status: http.StatusNotFound, code: gift.NotFound, words: "lose, retire or settle"},
		"a register that is away": {
			change: away, path: "a/lose", body: `{"why":"x"}`, status: http.StatusServiceUnavailable, code: gift.Unavailable, words: "the register of nodes does not answer",
			audit: []string{"admin node lose a (x): begun", "admin node lose a (x): " + errServer.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			d, s := openShared(t)
			if c.change != nil {
				c.change(s)
			}
			r := d.call(c.status, "POST", "/v1/admin/nodes/"+c.path, c.body)
			same(t, "code", r.code(), string(c.code))
			same(t, "field", r.field(), c.field)
			says(t, "the answer", r.text, c.words)
			if !slices.Equal(s.done, c.done) {
				t.Errorf("done: %q, want %q", s.done, c.done)
			}
			d.wantAudit(c.audit...)
		})
	}
}

func TestNoDeedToANodeWithoutAudit(t *testing.T) {
	d, s := openShared(t)
	d.ledger.fail = errors.New("locked")
	for _, deed := range []string{"a/lose", "b/retire"} {
		r := d.call(http.StatusServiceUnavailable, "POST", "/v1/admin/nodes/"+deed, `{"why":"x"}`)
		says(t, deed, r.text, "nothing was done")
	}
	same(t, "deeds", len(s.done), 0)
}

func TestANodeAloneHasNoRegister(t *testing.T) {
	d := openDesk(t)
	for _, c := range [][2]string{{"GET", ""}, {"POST", "/a/lose"}, {"POST", "/a/retire"}, {"POST", "/a/settle"}} {
		r := d.call(http.StatusNotFound, c[0], "/v1/admin/nodes"+c[1], `{"why":"x"}`)
		same(t, fmt.Sprint("code of ", c), r.code(), string(gift.NotFound))
		says(t, "the answer", r.text, "ledger.engine")
	}
}
