package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"manna/console"
	"manna/reconcile"
)

func newReconcile(e *env) *cobra.Command {
	var request console.ReconcileRequest
	var from, to string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare what was expected with what happened, and reissue what is missing",
		Long: `reissue = expected − actual − in flight, over the claims accepted from --from
until before --to (default: all). The running server does the work; the hourly
runs of its cron are the same.

Exit code 1 means that there are discrepancies that need a look: orders missing,
granted without a claim, granted twice, with another amount, or in doubt; or that
the report is incomplete.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for flag, at := range map[*string]*time.Time{&from: &request.From, &to: &request.To} {
				if *flag == "" {
					continue
				}
				t, err := time.Parse(time.RFC3339, *flag)
				if err != nil {
					return usageError{fmt.Errorf("%q is no time: write it like 2027-02-05T20:00:00+08:00", *flag)}
				}
				*at = t
			}
			if !request.To.IsZero() && !request.From.Before(request.To) {
				return usageError{fmt.Errorf("--to %s is not after --from %s: a run looks at claims from the one until before the other", to, from)}
			}
			a, _, err := e.admin()
			if err != nil {
				return err
			}
			var report reconcile.Report
			if err := a.call(cmd.Context(), "POST", "/v1/admin/reconcile", request, &report); err != nil {
				return err
			}
			if err := e.print(&report, report.WriteText); err != nil {
				return err
			}
			if report.Wrong() {
				return errFound
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&request.Campaign, "campaign", "", "only this `campaign`")
	cmd.Flags().StringVar(&from, "from", "", "claims accepted at or after this `time`")
	cmd.Flags().StringVar(&to, "to", "", "claims accepted before this `time`")
	completeFlag(cmd, "campaign", e.configured(campaignNames))
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "report only, reissue nothing")
	return cmd
}
