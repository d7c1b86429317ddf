//go:build engines

package node

import (
	"net"
	"strings"
	"testing"

	"manna/internal/config"
	"manna/ops/local/engines"
)

// TestCheckWithANameServerAway: serve delivers with that list, so check does not
// refuse it, and names the one.
func TestCheckWithANameServerAway(t *testing.T) {
	servers := engines.Up(t, engines.NameServer, engines.Broker)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	c := &config.Config{Node: "a", Data: t.TempDir()}
	c.Queue.Engine, c.Queue.Group, c.Queue.Queues = config.RocketMQ, "mannacheck", 4
	c.Queue.Nameservers = []string{servers.Addr(engines.NameServer), nobody}
	verdicts := CheckEngines(t.Context(), c)
	if len(verdicts) != 2 {
		t.Fatalf("got %+v, want data and queue", verdicts)
	}
	for _, v := range verdicts {
		if !v.OK {
			t.Errorf("got %+v, want it to be good", v)
		}
	}
	if v := verdicts[1]; v.Key != "queue" || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], nobody) || !strings.Contains(v.Notes[0], "queue: {nameservers}") {
		t.Errorf("got %+v, want a note that names %s and the key", v, nobody)
	}
	c.Queue.Nameservers = []string{nobody}
	if v := CheckEngines(t.Context(), c)[1]; v.OK || len(v.Notes) > 0 || !strings.Contains(v.Problem, nobody) {
		t.Errorf("got %+v, want it refused: no other is there", v)
	}
}
