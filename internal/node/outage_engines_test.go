//go:build engines

package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"manna/internal/notice"
	"manna/ops/local/engines"
)

// notes are what a node says is worse than it should be.
func (w *world) notes() []string {
	w.t.Helper()
	var ready struct {
		Notes []string `json:"notes"`
	}
	r := w.admin("GET", "/readyz", "")
	if err := json.Unmarshal([]byte(r.text), &ready); err != nil {
		w.t.Fatalf("%v in %s", err, r.text)
	}
	return ready.Notes
}

// noted waits until every one of these begins a note, or with none until there is none.
func (w *world) noted(what string, begin ...string) {
	w.t.Helper()
	w.until(what, func() bool {
		notes := w.notes()
		for _, b := range begin {
			if !strings.Contains("\n"+strings.Join(notes, "\n"), "\n"+b) {
				return false
			}
		}
		return len(begin) > 0 || len(notes) == 0
	})
}

// A server that is away is a note of each role that misses it, which ends with it; and a
// few lines of the log.
func TestServerThatIsAwayIsANote(t *testing.T) {
	e := engines.Up(t, engines.NameServer, engines.Broker, engines.Memcached, engines.Postgres)
	w := newWorld(t)
	name := "t" + strings.ToLower(rand.Text()[:10])
	c := w.config("node: a\n", fmt.Sprintf(`node: a
queue: {engine: rocketmq, nameservers: [%q], group: %s, queues: 6}
guard: {engine: memcached, servers: [%q], prefix: "%s:", standby: 0.5}
ledger: {engine: postgres, dsn: %q, schema: %s}
receipts: {secret: %s}
`, e.Addr(engines.NameServer), name, e.Addr(engines.Memcached), name, e.DSN(), name, strings.Repeat("5ec2e7", 8)), "idempotent: true", "idempotent: false")
	var err error
	if w.Node, err = Open(t.Context(), Options{Config: c, Roles: []Role{RoleFront, RoleLanes}, Dev: true, Logger: slog.New(slog.NewJSONHandler(w.said, nil))}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
		w.stop = nil
	}
	w.ready()
	w.noted("no notes")
	w.granted("u")
	w.noted("no notes")

	began := time.Now()
	e.Kill(engines.Memcached)
	w.noted("notes of memcached", "guard: memcached "+e.Addr(engines.Memcached)+" is away: ", "quota: memcached "+e.Addr(engines.Memcached)+" is away: ")
	w.want("a claim", w.public("POST", "/v1/claims", `{"campaign":"k","user":"without"}`), http.StatusAccepted)
	e.Start(engines.Memcached)
	w.noted("no notes")
	// Of each breaker two at once and one for each interval.
	lines := len(w.said.lines(t, "breaker"))
	if most := 2 * (3 + int(time.Since(began)/notice.Every)); lines == 0 || lines > most {
		t.Errorf("%d lines about breakers in %v, want at most %d", lines, time.Since(began), most)
	}

	e.Kill(engines.Postgres)
	w.want("a claim", w.public("POST", "/v1/claims", `{"campaign":"k","user":"v"}`), http.StatusAccepted)
	w.want("another front's claim", w.public("GET", "/v1/claims/00000000-0000-0000-0000-000000000007", ""), http.StatusServiceUnavailable)
	w.noted("notes of PostgreSQL", "ledger: other nodes' claims cannot be read: ", "lane p: orders wait for the ledger: ")
	w.want("metrics", w.admin("GET", "/metrics", ""), http.StatusOK, `manna_lane_waits_for_ledger{lane="p"} 1`)
	w.want("the lane", w.admin("GET", "/v1/admin/partners", ""), http.StatusOK, `"waits":"`)
	e.Start(engines.Postgres)
	w.noted("no notes")
	w.granted("v2")
	w.want("metrics", w.admin("GET", "/metrics", ""), http.StatusOK, `manna_lane_waits_for_ledger{lane="p"} 0`)

	e.Kill(engines.Broker)
	w.noted("notes of the broker", "lane p: ")
	for _, note := range w.notes() {
		t.Log(note)
		if strings.HasPrefix(note, "lane ") && (len(note) > 300 || strings.Contains(note, "\n")) {
			t.Errorf("it is no short line: %s", note)
		}
	}
	e.Start(engines.Broker)
	w.noted("no notes")
}
