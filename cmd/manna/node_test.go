package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"manna/console"
	"manna/ledger"
)

func TestNodeTableNamesSilentNodes(t *testing.T) {
	now := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	nodes := &console.Nodes{Now: now}
	for name, n := range map[string]ledger.Node{
		"alive": {State: ledger.NodeUp, Seen: now.Add(-2 * time.Second)},
		"dumb":  {State: ledger.NodeUp, Seen: now.Add(-10 * time.Minute)},
		"gone":  {State: ledger.NodeLost, Seen: now.Add(-time.Hour)},
	} {
		n.Name = name
		nodes.Nodes = append(nodes.Nodes, n)
	}
	var table strings.Builder
	if err := nodeTable(&table, nodes); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`alive +up  `, `dumb +up, silent  .*10m0s ago`, `gone +lost  `} {
		if !regexp.MustCompile(line).MatchString(table.String()) {
			t.Errorf("no line %q in\n%s", line, &table)
		}
	}
}
