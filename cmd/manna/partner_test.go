package main

import (
	"strings"
	"testing"

	"manna/consumer"
)

func TestPartnerSaysWhyOrdersWait(t *testing.T) {
	var out strings.Builder
	if err := laneTable(&out, []consumer.LaneStatus{{Partner: "juno", Waits: "it is away"}, {Partner: "midas"}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 4 || lines[3] != "juno: orders wait for the ledger: it is away" {
		t.Errorf("got\n%s", out.String())
	}
}
