package node

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/ledger/sqlite"
)

// A ledger that cannot be opened holds up neither a start, nor claims, nor
// deliveries; what needs it says so, and goes on once it can be opened.
func TestLedgerThatCannotBeOpenedHoldsNothingUp(t *testing.T) {
	w := newWorld(t)
	obstacle := filepath.Join(w.dir, "data", "ledger")
	if err := os.MkdirAll(filepath.Dir(obstacle), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(obstacle, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.granted("u")
	r := w.admin("GET", "/readyz", "")
	w.want("readiness", r, http.StatusServiceUnavailable, `"ready":false`, "ledger is not open", obstacle)
	w.want("life", w.admin("GET", "/healthz", ""), http.StatusOK)
	for what, r := range map[string]reply{
		"a user's claims": w.public("GET", "/v1/users/u/claims", ""),
		"runs":            w.admin("GET", "/v1/admin/runs", ""),
		"the audit":       w.admin("GET", "/v1/admin/audit", ""),
		"claims in bulk":  w.admin("POST", "/v1/admin/claims", `{"claims":[{"campaign":"k","user":"bulk"}]}`),
		"a run by hand":   w.admin("POST", "/v1/admin/reconcile", `{}`),
	} {
		w.want(what, r, http.StatusServiceUnavailable, `"code":"unavailable"`)
		if r.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", what)
		}
	}
	w.want("a switch, which is in the log", w.admin("POST", "/v1/admin/switches/partner/p", `{"mode":"held_closed","why":"a drill"}`), http.StatusOK)
	// What could not be entered was not done.
	w.want("the user of the bulk", w.public("POST", "/v1/claims", `{"campaign":"k","user":"bulk"}`), http.StatusAccepted)

	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	w.ready()
	w.until("the ledger has what was claimed meanwhile", func() bool {
		r := w.public("GET", "/v1/users/u/claims", "")
		return r.status == http.StatusOK && strings.Contains(r.text, `"claim_id"`)
	})
	w.want("the audit", w.admin("GET", "/v1/admin/audit", ""), http.StatusOK, `"switch"`, "a drill")
	if told := w.said.lines(t, "ledger cannot be opened; claims and deliveries go on, it is tried again"); len(told) != 1 || told[0]["level"] != "ERROR" {
		t.Errorf("what could not be opened was told so: %v", told)
	}
	if told := w.said.lines(t, "ledger cannot follow the log; claims are not affected, it keeps trying"); len(told) != 0 {
		t.Errorf("the follower told it once more: %v", told)
	}
}

func TestCorruptLedgerIsSetAsideAndRebuilt(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.granted("u")
	w.stop()
	noise := bytes.Repeat([]byte("noise"), 4000)
	for _, name := range []string{sqlite.DerivedFile, sqlite.KeptFile} {
		if err := os.WriteFile(filepath.Join(w.dir, "data", "ledger", name), noise, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.ready()
	w.until("rebuilt", func() bool {
		r := w.public("GET", "/v1/users/u/claims", "")
		return r.status == http.StatusOK && strings.Contains(r.text, `"claim_id"`)
	})
	for _, name := range []string{sqlite.DerivedFile, sqlite.KeptFile} {
		aside := filepath.Join(w.dir, "data", "ledger", name+".damaged-1")
		if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, noise) {
			t.Errorf("%s does not hold what was there: %v", aside, err)
		}
		if !strings.Contains(w.said.String(), aside) {
			t.Errorf("nobody was told of %s", aside)
		}
	}
}
