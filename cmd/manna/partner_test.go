package main

import (
	"strings"
	"testing"

	"manna/consumer"
	"manna/queue"
)

func TestPartnerSaysWhatNeedsAPerson(t *testing.T) {
	var out strings.Builder
	if err := laneTable(&out, []consumer.LaneStatus{{Partner: "juno", Waits: "it is away"}, {Partner: "midas", Queue: queue.Status{Aside: 3}}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 5 || lines[3] != "juno: orders wait for the ledger: it is away" || !strings.HasPrefix(lines[4], "midas: messages put aside because they cannot be read: 3;") {
		t.Errorf("got\n%s", out.String())
	}
}
