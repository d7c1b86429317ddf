package console

import (
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
	// As a run counts them.
	q.From, q.To = q.From.Truncate(time.Millisecond), q.To.Truncate(time.Millisecond)
	if !q.To.IsZero() && !q.From.Before(q.To) {
		return &gift.Error{Code: gift.BadRequest, Field: "to", Detail: fmt.Sprintf("%v is not after from, %v", q.To, q.From)}
	}
	if q.Campaign != "" && gift.CheckName(q.Campaign) != nil {
		return &gift.Error{Code: gift.BadRequest, Field: "campaign", Detail: fmt.Sprintf("there is no campaign %.80q, nor can one be called so; there are: %s", q.Campaign, strings.Join(c.opts.Campaigns(), ", "))}
	}
	if err := checkWords(q.Who, "", false); err != nil {
		return err
	}
	var report *reconcile.Report
	err := c.audited(r.Context(), deed{who: q.Who, action: "reconcile", target: q.Campaign}, func() (detail string, err error) {
		report, err = c.opts.Reconcile(r.Context(), reconcile.Request{Campaign: q.Campaign, From: q.From, To: q.To, DryRun: q.DryRun})
		if err != nil {
			return "", err
		}
		if q.Campaign != "" && report.Expected+report.Actual == 0 && !slices.Contains(c.opts.Campaigns(), q.Campaign) {
			err = gift.Errorf(gift.CampaignUnknown, "there is no campaign %q, in the configuration or in the log; there are: %s", q.Campaign, strings.Join(c.opts.Campaigns(), ", "))
		}
		return fmt.Sprintf("run %s: %d reissued", report.Run, report.Reissued), err
	})
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
	if runs == nil {
		runs = []ledger.Run{}
	}
	answer(w, http.StatusOK, map[string]any{"runs": runs})
	return nil
}
