// Package architecture holds the test that keeps imports pointing down.
package architecture

import (
	"bufio"
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// may lists, for each room, the rooms that it may import. A room is the first
// part of a path, or internal/ and the part after it.
var may = map[string][]string{
	"gift":                {},
	"internal/disk":       {},
	"internal/credential": {},
	"internal/notice":     {},
	"internal/schedule":   {},
	"internal/config":     {"gift", "internal/credential", "internal/schedule"},
	"fallbacklog":         {"gift", "internal/disk"},
	"breaker":             {"gift"},
	"internal/memcache":   {"breaker"},
	"queue":               {"gift", "fallbacklog", "breaker", "internal/disk"},
	"ledger":              {"gift", "fallbacklog", "internal/disk"},
	"producer":            {"gift", "fallbacklog", "queue", "ledger", "internal/credential", "internal/disk", "internal/memcache", "internal/notice"},
	"delivery":            {"gift", "internal/credential"},
	"consumer":            {"gift", "fallbacklog", "breaker", "queue", "delivery", "ledger", "internal/disk", "internal/memcache", "internal/notice"},
	"reconcile":           {"gift", "fallbacklog", "queue", "ledger", "internal/disk", "internal/schedule"},
	"internal/promises":   {"gift", "fallbacklog", "delivery"},
	"console":             {"gift", "fallbacklog", "breaker", "queue", "ledger", "producer", "consumer", "reconcile", "internal/disk"},
	"ops":                 {}, // servers of others, for tests
	"internal/node": {"gift", "fallbacklog", "breaker", "queue", "ledger", "producer", "delivery", "consumer", "reconcile", "console",
		"internal/config", "internal/disk", "internal/memcache", "internal/notice"},
	"internal/demo": {"gift", "fallbacklog", "delivery", "consumer", "reconcile", "console", "internal/config", "internal/disk", "internal/node", "internal/promises"},
	"cmd": {"gift", "fallbacklog", "breaker", "delivery", "consumer", "reconcile", "console",
		"internal/config", "internal/disk", "internal/node", "internal/demo"},
}

func TestImportsPointDown(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "manna/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		from := room(fields[0])
		if from == "internal/architecture" {
			continue
		}
		allowed, known := may[from]
		if !known {
			t.Errorf("%s is a room of which this test knows nothing", from)
			continue
		}
		seen++
		for _, path := range fields[1:] {
			if to := room(path); strings.HasPrefix(path, "manna/") && to != from && !contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import %v", fields[0], path, from, allowed)
			}
		}
	}
	if seen < len(may) {
		t.Errorf("saw %d packages, want at least one for each of %d rooms", seen, len(may))
	}
}

func room(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "manna/"), "/")
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
