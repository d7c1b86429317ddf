package main

import (
	"strings"
	"testing"

	"manna/consumer"
	"manna/queue"
)

func TestPartnerSaysWhatNeedsAPerson(t *testing.T) {
	var out strings.Builder
	if err := laneTable(&out, []consumer.LaneStatus{{Partner: "juno", Waits: "it is away", Problem: "no broker"}, {Partner: "midas", Queue: queue.Status{Aside: 3}}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 6 || strings.Count(lines[1], "?") != 3 || strings.Contains(lines[2], "?") || lines[3] != "juno: what waits is not known now: no broker" ||
		lines[4] != "juno: orders wait for the ledger: it is away" || !strings.HasPrefix(lines[5], "midas: messages put aside because they cannot be read: 3;") {
		t.Errorf("got\n%s", out.String())
	}
}
