package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/delivery/partnertest"
	"manna/internal/config"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The RocketMQ client begins one when the program does. One that was closed young
		// sleeps for up to ten seconds, and nobody closes its connection to the name server.
		goleak.IgnoreAnyFunction("github.com/patrickmn/go-cache.(*janitor).Run"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.1"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.2"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.3"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.4"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal/remote.(*remotingClient).receiveResponse"),
	)
}

// patience bounds what a test waits for.
const patience = 30 * time.Second

// said is what a node logs, as JSON.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// lines gives the lines with a message, decoded.
func (s *said) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(s.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// world is one node's directory with its partner, over restarts.
type world struct {
	t       *testing.T
	dir     string
	partner *partnertest.Partner
	http    http.Client
	said    *said

	*Node
	stop func() // ends Run and waits for it
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), partner: partnertest.Start(t, partnertest.Script{Name: "p", Dedupe: true}), said: &said{}}
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
		w.http.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the node said:\n%s", w.said)
		}
	})
	return w
}

// config parses the world's configuration after a change.
func (w *world) config(change ...string) *config.Config {
	w.t.Helper()
	text := fmt.Sprintf(`data: data
node: a
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
partners:
  p: {url: "%[1]s/grant", query_url: "%[1]s/orders", idempotent: true, rate: 500/s, timeout: 500ms, retry: [100ms],
      breaker: {window: 2s, min_calls: 2, open_for: 100ms}}
campaigns:
  k:
    opens: 2026-01-01T00:00:00Z
    closes: 2099-01-01T00:00:00Z
    gifts:
      g: {stock: 100, items: [{item: i, partner: p}]}
`, w.partner.URL)
	c, err := config.Parse(filepath.Join(w.dir, "manna.yaml"), []byte(strings.NewReplacer(change...).Replace(text)), os.LookupEnv)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// start opens a node and runs it.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.Node, err = Open(w.t.Context(), Options{Config: w.config(), Dev: true, Logger: slog.New(slog.NewJSONHandler(w.said, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the node ended with %v", err)
		}
		w.stop = nil
	}
}

// reply is an answer of one of the ports.
type reply struct {
	status int
	header http.Header
	text   string
}

func (w *world) call(method, url, body string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token, err := ReadSecret(filepath.Join(w.dir, "data", TokenFile)); err == nil {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

func (w *world) public(method, path, body string) reply {
	w.t.Helper()
	return w.call(method, "http://"+w.Public()+path, body)
}

func (w *world) admin(method, path, body string) reply {
	w.t.Helper()
	return w.call(method, "http://"+w.Admin()+path, body)
}

// want checks an answer's status and what its text holds.
func (w *world) want(what string, r reply, status int, words ...string) {
	w.t.Helper()
	if r.status != status {
		w.t.Errorf("%s: got %d %s, want %d", what, r.status, r.text, status)
	}
	for _, word := range words {
		if !strings.Contains(r.text, word) {
			w.t.Errorf("%s: %s does not say %q", what, r.text, word)
		}
	}
}

// until asks again until an answer is as it shall be: nothing tells a caller of
// HTTP when something has changed.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (w *world) ready() {
	w.t.Helper()
	w.until("ready", func() bool { return w.admin("GET", "/readyz", "").status == http.StatusOK })
}

// granted claims for a user and waits until the partner has granted it.
func (w *world) granted(user string) {
	w.t.Helper()
	r := w.public("POST", "/v1/claims", fmt.Sprintf(`{"campaign":"k","user":%q}`, user))
	w.want("a claim", r, http.StatusAccepted)
	var claim struct {
		ID string `json:"claim_id"`
	}
	if err := json.Unmarshal([]byte(r.text), &claim); err != nil {
		w.t.Fatal(err)
	}
	w.until("granted", func() bool {
		return strings.Contains(w.public("GET", "/v1/claims/"+claim.ID, "").text, `"state":"granted"`)
	})
}

func TestNodeDeliversAndRemembers(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	w.granted("u")
	w.stop()
	w.start()
	w.want("a repeat after a restart", w.public("POST", "/v1/claims", `{"campaign":"k","user":"u"}`), http.StatusOK, `"duplicate":true`, `"state":"granted"`)
	if got := len(w.partner.Books().Grants); got != 1 {
		t.Errorf("the partner granted %d times", got)
	}
	w.want("metrics", w.admin("GET", "/metrics", ""), http.StatusOK, `manna_claims_total{result="duplicate"} 1`)
	w.stop()
	stopped := w.said.lines(t, "stopped")
	if took, _ := stopped[0]["took"].(string); len(stopped) != 2 || !strings.HasSuffix(took, "s") {
		t.Errorf("how it stopped: %v", stopped)
	}
}

func TestOpenEndsWithItsContextAndLeavesNothingOpen(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.granted("u")
	w.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := Open(ctx, Options{Config: w.config(), Dev: true}); !errors.Is(err, context.Canceled) || n != nil {
		t.Fatalf("got %v", err)
	}
	// The directory is free again.
	w.start()
	w.ready()
}

func TestReloadIsWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	w.granted("u")
	for name, change := range map[string][]string{
		"node":     {"node: a", "node: b", "500/s", "400/s"},
		"shutdown": {"campaigns:", "shutdown: 5s\ncampaigns:", "500/s", "400/s"},
	} {
		if err := w.Reload(w.config(change...)); err == nil || !strings.Contains(err.Error(), "nothing was changed: "+name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	w.want("status", w.admin("GET", "/v1/admin/status", ""), http.StatusOK, `"rate":500`)
	if err := w.Reload(w.config("500/s", "400/s", "2099-01-01", "2026-01-02")); err != nil {
		t.Fatal(err)
	}
	w.want("status", w.admin("GET", "/v1/admin/status", ""), http.StatusOK, `"rate":400`)
	w.want("a claim of a closed campaign", w.public("POST", "/v1/claims", `{"campaign":"k","user":"late"}`), http.StatusForbidden, "campaign_closed")
	w.want("a repeat", w.public("POST", "/v1/claims", `{"campaign":"k","user":"u"}`), http.StatusOK, `"duplicate":true`)
	if err := w.Reload(w.config("\n  k:", "\n  other:")); err != nil {
		t.Fatal(err)
	}
	w.want("a claim of a campaign that is gone", w.public("POST", "/v1/claims", `{"campaign":"k","user":"late"}`), http.StatusNotFound, "campaign_unknown")
	w.want("a repeat", w.public("POST", "/v1/claims", `{"campaign":"k","user":"u"}`), http.StatusOK, `"duplicate":true`)
}

func TestBreakersSayWhatTheyDo(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	for _, mode := range []string{"held_open", "automatic"} {
		w.want(mode, w.admin("POST", "/v1/admin/switches/partner/p", `{"mode":"`+mode+`","why":"a drill"}`), http.StatusOK)
	}
	told := w.said.lines(t, "breaker")
	if len(told) != 2 || told[0]["level"] != "WARN" || told[0]["state"] != "open" || told[1]["level"] != "INFO" || told[1]["state"] != "closed" {
		t.Fatalf("got %v", told)
	}
	for _, fields := range told {
		if at, there := fields["retry_at"]; there {
			t.Errorf("a breaker that nothing but a person changes is tried at %v", at)
		}
	}
}

func TestDevListensOnLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	for address, want := range map[string]string{
		`":0"`: "", `"localhost:0"`: "", `"[::1]:0"`: "", `"0.0.0.0:0"`: "loopback only", `"192.0.2.1:0"`: "loopback only",
	} {
		n := &Node{opts: Options{Dev: true}, config: w.config(`public: "127.0.0.1:0"`, "public: "+address)}
		public, _, err := n.addresses()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
		if err == nil && strings.HasPrefix(public, ":") {
			t.Errorf("%s is every interface", public)
		}
	}
}

func TestWithoutAuthOnlyDevServes(t *testing.T) {
	w := newWorld(t)
	if _, err := Open(t.Context(), Options{Config: w.config()}); err == nil || !strings.Contains(err.Error(), "auth is missing") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreMadeOnceAndKept(t *testing.T) {
	w := newWorld(t)
	w.start()
	token, err := ReadSecret(filepath.Join(w.dir, "data", TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start()
	if again, err := ReadSecret(filepath.Join(w.dir, "data", TokenFile)); err != nil || again != token {
		t.Errorf("after a restart: got another token, %v", err)
	}
	info, err := os.Stat(filepath.Join(w.dir, "data", TokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
}
