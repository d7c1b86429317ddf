package main

import (
	"strings"
	"testing"
)

func TestRepairOfARunningServersLog(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	code, out, errOut := s.cli("log", "repair", "--json")
	if f := failed(t, out); code != exitWrong || f.Error.Code != "locked" || !strings.Contains(errOut, "stop the server") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	s.terminate()
	if code, out, errOut := s.cli("log", "repair", "--json"); code != exitDone || strings.Join(strings.Fields(out), "") != `{"repaired":[]}` {
		t.Errorf("a sound log: exit code %d\n%s%s", code, out, errOut)
	}
}

func TestReconcileNamesTheCampaignsThatThereAre(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	s.ready()
	for campaign, want := range map[string]string{"../../x": "bad_request", "nope": "campaign_unknown", strings.Repeat("x", 500): "bad_request"} {
		code, out, errOut := s.cli("reconcile", "--json", "--campaign", campaign)
		f := failed(t, out)
		if code != exitWrong || f.Error.Code != want || !strings.Contains(f.Error.Message, campaign[:4]) || !strings.HasSuffix(f.Error.Message, "there are: k") ||
			strings.Count(errOut, "\n") != 1 || len(errOut) > 300 {
			t.Errorf("%.20s: exit code %d, want %s\n%s%s", campaign, code, want, out, errOut)
		}
	}
	// What the command line lets through, the server looks at as a run does.
	code, out, errOut := s.cli("reconcile", "--json", "--from", "2027-02-05T20:00:00.0001Z", "--to", "2027-02-05T20:00:00.0002Z")
	if f := failed(t, out); code != exitWrong || f.Error.Code != "bad_request" || f.Error.Field != "to" {
		t.Errorf("a slot of no millisecond: exit code %d\n%s%s", code, out, errOut)
	}
	if code, out, errOut := s.cli("reconcile", "--json", "--campaign", "k"); code != exitDone {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	s.terminate()
}

// What a shell offers for switches are those that the server has.
func TestCompletedSwitchesAreTheServers(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	names, _ := complete(t, "--config", s.config, "switch", "")
	if len(names) == 0 {
		t.Error("no switch is offered")
	}
	for _, name := range names {
		if code, _, errOut := s.cli("switch", name, "auto"); code != exitDone {
			t.Errorf("%s: exit code %d, %s", name, code, errOut)
		}
	}
	s.terminate()
}
