package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"manna/gift"
	"manna/ledger"
	"manna/reconcile"
)

// ReconcileRequest asks for one run now.
type ReconcileRequest struct {
	Campaign string    `json:"campaign,omitempty"`
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Who      string    `json:"who,omitempty"`
}

func (c *Console) reconcile(w http.ResponseWriter, r *http.Request) error {
	var q ReconcileRequest
	if err := read(r, &q); err != nil {
		return err
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return &gift.Error{Code: gift.BadRequest, Field: "to", Detail: fmt.Sprintf("%v is not after from, %v", q.To, q.From)}
	}
	report, err := c.opts.Reconcile(r.Context(), reconcile.Request{Campaign: q.Campaign, From: q.From, To: q.To, DryRun: q.DryRun})
	detail := ""
	if err == nil {
		detail = fmt.Sprintf("run %s: %d reissued", report.Run, report.Reissued)
	}
	if err == nil && q.Campaign != "" && report.Expected+report.Actual == 0 && !slices.Contains(c.opts.Campaigns(), q.Campaign) {
		err = gift.Errorf(gift.CampaignUnknown, "there is no campaign %q, in the configuration or in the log; there are: %s", q.Campaign, strings.Join(c.opts.Campaigns(), ", "))
	}
	c.note(r.Context(), who(q.Who), "reconcile", q.Campaign, detail, err)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, report)
	return nil
}

func (c *Console) runs(w http.ResponseWriter, r *http.Request) error {
	runs, _, err := c.opts.Ledger.Runs(r.Context(), ledger.Cursor{}, ledger.DefaultPage)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"runs": runs})
	return nil
}

func (c *Console) audit(w http.ResponseWriter, r *http.Request) error {
	entries, _, err := c.opts.Ledger.AuditLog(r.Context(), ledger.AuditFilter{}, ledger.DefaultPage)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{"audit": entries})
	return nil
}

// note writes a deed into the audit. A deed that is done is not undone because
// the audit cannot be written: that is an alarm.
func (c *Console) note(ctx context.Context, who, action, target, detail string, err error) {
	e := ledger.Entry{Who: who, Role: "admin", Action: action, Target: target, Detail: detail, Result: "done", Node: c.opts.Log.Node()}
	if err != nil {
		e.Result = err.Error()
	}
	if err := c.opts.Ledger.Audit(context.WithoutCancel(ctx), e); err != nil {
		c.opts.Logger.Error("cannot write the audit", "action", action, "target", target, "who", who, "err", err)
	}
}
