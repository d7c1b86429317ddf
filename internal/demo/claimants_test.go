package demo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/gift"
)

// front answers claims without a network: each user's first with an error, and then
// as a server does.
type front struct {
	mu     sync.Mutex
	failed map[string]bool
	claims map[string]gift.ClaimID
	hosts  map[string]int
}

func newFrontCrowd(claims int) (*front, *crowd) {
	f := &front{failed: make(map[string]bool), claims: make(map[string]gift.ClaimID), hosts: make(map[string]int)}
	c := newCrowd(newPlan(claims, 5), []string{"http://front-1", "http://front-2"})
	c.http.Transport = f
	return f, c
}

func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w.Result(), nil
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var a ask
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[r.URL.Host]++
	if !f.failed[a.User] {
		f.failed[a.User] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"code":"unavailable","detail":"come again"}`)
		return
	}
	id, known := f.claims[a.User]
	if !known {
		id[0], id[1] = byte(len(f.claims)), byte(len(f.claims)>>8)
		f.claims[a.User] = id
	}
	json.NewEncoder(w).Encode(map[string]any{"claim_id": id, "duplicate": known})
}

// Every claimant repeats until it is answered, and a fifth of the claims are of
// users who have claimed before.
func TestCrowdIsAnsweredToTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const claims = 200
		f, c := newFrontCrowd(claims)
		told := 0
		if err := c.run(t.Context(), func(sent int) {
			if sent != told {
				t.Errorf("told that %d were sent, want %d", sent, told)
			}
			told++
		}); err != nil {
			t.Fatal(err)
		}
		if told != claims || f.hosts["front-1"] == 0 || f.hosts["front-2"] == 0 {
			t.Errorf("told %d times; asked %v", told, f.hosts)
		}
		users := int64(claims * (repeats - 1) / repeats)
		if c.sent.Load() != claims || c.accepted.Load() != users || c.duplicates.Load() != claims-users || c.refused.Load() != 0 {
			t.Errorf("%d sent, %d accepted, %d duplicates, %d refused", c.sent.Load(), c.accepted.Load(), c.duplicates.Load(), c.refused.Load())
		}
		if c.repeated.Load() != users {
			t.Errorf("%d repeats of %d users whose first claim failed", c.repeated.Load(), users)
		}
		if len(c.claims) != len(f.claims) {
			t.Errorf("the crowd knows of %d claims, the server of %d", len(c.claims), len(f.claims))
		}
	})
}

// Also where nobody is at work at that moment, as between two claims of a small
// demo.
func TestCrowdEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, c := newFrontCrowd(2) // seven seconds apart
		ended := make(chan error, 1)
		go func() { ended <- c.run(ctx, func(int) {}) }()
		time.Sleep(time.Second) // of the bubble: the first claim has been repeated and answered
		synctest.Wait()
		if c.accepted.Load() != 1 || c.sent.Load() != 1 {
			t.Errorf("%d claims accepted of %d sent, want the first", c.accepted.Load(), c.sent.Load())
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the context ended", err)
		}
	})
}
