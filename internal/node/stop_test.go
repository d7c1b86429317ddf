package node

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/ledger"
)

// roll is a register of nodes that takes every word.
type roll struct{ ledger.Registry }

func (roll) Join(context.Context, ledger.Process) (int64, error) { return 1, nil }

func (roll) Beat(context.Context, ledger.Holder, fallbacklog.Position) error { return nil }

func (roll) Nodes(context.Context) ([]ledger.Node, time.Time, error) { return nil, time.Now(), nil }

func (roll) Leave(context.Context, ledger.Holder, fallbacklog.Position) error { return nil }

// What people do through the admin port while a node of a cluster stops would be in no
// segment that other nodes can read, and yet be before the end that the node tells.
func TestNothingIsChangedOnceTheLogIsBroughtToItsEnd(t *testing.T) {
	w := newWorld(t)
	// A ledger that cannot be opened makes the stop wait for it.
	obstacle := filepath.Join(w.dir, "data", "ledger")
	if err := os.MkdirAll(filepath.Dir(obstacle), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(obstacle, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(w.said, nil))
	var err error
	w.Node, err = Open(t.Context(), Options{Config: w.config("campaigns:", "shutdown: 3s\ncampaigns:"), Dev: true, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	w.member = newMember(roll{}, ledger.Process{Node: "a"}, w.log.Tip, false, logger)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	const path, body = "/v1/admin/switches/partner/p", `{"mode":"held_closed","why":"a drill"}`
	w.until("it has joined", func() bool { _, joined := w.member.joined(); return joined })
	w.want("a switch", w.admin("POST", path, body), http.StatusOK)
	cancel()
	var refused reply
	w.until("changes are refused", func() bool {
		refused = w.admin("POST", path, body)
		return refused.status != http.StatusOK
	})
	w.want("a switch while it stops", refused, http.StatusServiceUnavailable, `"code":"unavailable"`, "is stopping")
	if refused.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.want("life", w.admin("GET", "/healthz", ""), http.StatusOK)
	w.want("the switches", w.admin("GET", "/v1/admin/switches", ""), http.StatusOK, "held_closed")
	w.want("a switch, later", w.admin("POST", path, body), http.StatusServiceUnavailable, "is stopping")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
