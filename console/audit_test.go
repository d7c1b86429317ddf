package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/reconcile"
)

// audited gives the audit, the oldest entry first, as "who action target: result".
func (d *desk) audited() (lines []string) {
	d.t.Helper()
	entries, _, err := d.ledger.AuditLog(d.t.Context(), ledger.AuditFilter{}, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		lines = append([]string{fmt.Sprintf("%s %s %s (%s): %s", e.Who, e.Action, e.Target, e.Detail, e.Result)}, lines...)
	}
	return lines
}

func (d *desk) wantAudit(want ...string) {
	d.t.Helper()
	if got := d.audited(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		d.t.Errorf("the audit holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParkedOrderIsTakenUpAgain(t *testing.T) {
	d := openDesk(t)
	c, o := d.claim("u1")
	d.happens(fallbacklog.Parked, c, fallbacklog.Event{Code: "exhausted", Reason: "enough"})
	path := "/v1/admin/orders/" + o.ID.String() + "/reissue"
	same(t, "field", d.call(http.StatusBadRequest, "POST", path, `{"why":" "}`).field(), "why")
	r := d.call(http.StatusOK, "POST", path, `{"why":"they are back","who":"ana"}`)
	same(t, "state", r.body["state"], any("accepted"))
	recs := d.records(fallbacklog.Reissued)
	if len(recs) != 1 || recs[0].Event.Run != fallbacklog.RunPerson+"ana" || recs[0].Event.Reason != "they are back" {
		t.Errorf("the log holds %+v", recs)
	}
	d.wantAudit(
		fmt.Sprintf("ana reissue %v (they are back): begun", o.ID),
		fmt.Sprintf("ana reissue %v (they are back): done", o.ID))
	d.happens(fallbacklog.Granted, c, fallbacklog.Event{})
	d.call(http.StatusBadRequest, "POST", path, `{"why":"once more"}`)
	same(t, "records", len(d.records(fallbacklog.Reissued)), 1)
}

func TestClaimsInBulk(t *testing.T) {
	d := openDesk(t)
	d.claim("known")
	r := d.call(http.StatusOK, "POST", "/v1/admin/claims", `{"claims":[{"campaign":"spring","user":"a"},{"campaign":"spring","user":"known"},{"campaign":"winter","user":"a"},{"campaign":"spring","user":"a\u200bb"}]}`)
	results := r.body["results"].([]any)
	for i, want := range []string{"", "", string(gift.CampaignUnknown), string(gift.BadRequest)} {
		code, _ := results[i].(map[string]any)["code"].(string)
		same(t, fmt.Sprint("code of claim ", i), code, want)
	}
	same(t, "duplicate", results[1].(map[string]any)["duplicate"], any(true))
	d.wantAudit("admin grant  (4 claims): begun", "admin grant  (4 claims, 2 accepted): done")
	for _, body := range []string{`{"claims":[]}`, `{"claims":[` + strings.Repeat(`{"user":"u"},`, MaxClaims) + `{"user":"u"}]}`} {
		same(t, "field", d.call(http.StatusBadRequest, "POST", "/v1/admin/claims", body).field(), "claims")
	}
}

func TestRunByHand(t *testing.T) {
	d := openDesk(t)
	c, _ := d.claim("u1")
	d.happens(fallbacklog.Granted, c, fallbacklog.Event{})
	same(t, "runs before", d.call(http.StatusOK, "GET", "/v1/admin/runs", "").text, "{\"runs\":[]}\n")
	same(t, "audit before", d.call(http.StatusOK, "GET", "/v1/admin/audit", "").text, "{\"audit\":[]}\n")
	r := d.call(http.StatusOK, "POST", "/v1/admin/reconcile", `{"campaign":"spring","who":"ana"}`)
	same(t, "expected", r.body["expected"], any(1.0))
	run := r.body["run"].(string)
	d.wantAudit("ana reconcile spring (): begun", "ana reconcile spring (run "+run+": 0 reissued): done")
	says(t, "runs", d.call(http.StatusOK, "GET", "/v1/admin/runs", "").text, run)
	says(t, "audit", d.call(http.StatusOK, "GET", "/v1/admin/audit", "").text, `"action":"reconcile"`, `"result":"begun"`, `"result":"done"`)
	same(t, "field", d.call(http.StatusBadRequest, "POST", "/v1/admin/reconcile", `{"from":"2027-01-02T00:00:00Z","to":"2027-01-01T00:00:00Z"}`).field(), "to")
	same(t, "code", d.call(http.StatusNotFound, "POST", "/v1/admin/reconcile", `{"campaign":"winter"}`).code(), string(gift.CampaignUnknown))
}

// The intent is in the audit while the deed is under way, and what it failed with
// after it.
func TestFailureIsNotedBehindItsIntent(t *testing.T) {
	d := openDesk(t)
	d.reconcile = func(context.Context, reconcile.Request) (*reconcile.Report, error) {
		d.wantAudit("ana reconcile  (): begun")
		return nil, errors.New("the log is damaged")
	}
	d.call(http.StatusServiceUnavailable, "POST", "/v1/admin/reconcile", `{"who":"ana"}`)
	d.wantAudit("ana reconcile  (): begun", "ana reconcile  (): the log is damaged")
}

func TestWhatCannotBeAuditedIsNotDone(t *testing.T) {
	d := openDesk(t)
	c, o := d.claim("u1")
	d.happens(fallbacklog.Parked, c, fallbacklog.Event{Code: "exhausted"})
	d.reconcile = func(context.Context, reconcile.Request) (*reconcile.Report, error) {
		t.Error("a run was made")
		return nil, errors.New("not reached")
	}
	d.ledger.fail = fmt.Errorf("%w: locked", ledger.ErrNotOpen)
	for path, body := range map[string]string{
		"/v1/admin/orders/" + o.ID.String() + "/reissue": `{"why":"x"}`,
		"/v1/admin/claims":    `{"claims":[{"campaign":"spring","user":"u2"}]}`,
		"/v1/admin/reconcile": `{}`,
	} {
		r := d.call(http.StatusServiceUnavailable, "POST", path, body)
		same(t, "code", r.code(), string(gift.Unavailable))
		says(t, path, r.text, "nothing was done")
		if r.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	same(t, "reissued", len(d.records(fallbacklog.Reissued)), 0)
	same(t, "claimed", len(d.records(fallbacklog.Claimed)), 1)
}
