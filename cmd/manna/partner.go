package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"manna/consumer"
	"manna/gift"
)

func newPartner(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "partner [NAME]",
		Short:             "Show how the lanes of a running server stand",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: arguments(e.configured(partnerNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, _, err := e.admin()
			if err != nil {
				return err
			}
			var got struct {
				Partners []consumer.LaneStatus `json:"partners"`
			}
			if err := a.call(cmd.Context(), "GET", "/v1/admin/partners", nil, &got); err != nil {
				return err
			}
			if len(args) == 1 {
				var names []string
				for _, p := range got.Partners {
					if names = append(names, p.Partner); p.Partner == args[0] {
						return e.print(p, func(w io.Writer) error { return laneTable(w, []consumer.LaneStatus{p}) })
					}
				}
				if len(names) == 0 {
					return gift.Errorf(gift.NotFound, "this node serves no lanes: ask one that does, see manna node")
				}
				return gift.Errorf(gift.NotFound, "there is no partner %q; there are: %s", args[0], strings.Join(names, ", "))
			}
			return e.print(got, func(w io.Writer) error { return laneTable(w, got.Partners) })
		},
	}
}

func laneTable(out io.Writer, lanes []consumer.LaneStatus) error {
	if len(lanes) == 0 {
		_, err := fmt.Fprintln(out, "This node serves no lanes: ask one that does, see manna node.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "partner\trate\twaiting\tdeferred\tin flight\tgranted\trefused\tparked\toldest\tbreaker\t")
	for _, l := range lanes {
		breaker := l.Breaker.State.String()
		if mode := l.Breaker.Mode.String(); mode != "automatic" {
			breaker = mode
		}
		oldest := "-"
		if !l.Queue.OldestSeen.IsZero() {
			oldest = time.Since(l.Queue.OldestSeen).Round(time.Second).String()
		}
		waiting, deferred := fmt.Sprint(l.Queue.Backlog+max(0, l.Queue.Held-int64(l.InFlight))), fmt.Sprint(l.Queue.Deferred)
		if l.Problem != "" {
			waiting, deferred, oldest = "?", "?", "?"
		}
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t\n", l.Partner, l.Rate, waiting, deferred, l.InFlight,
			l.Outcomes.Granted, l.Outcomes.Refused, l.Outcomes.Parked, oldest, breaker)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range lanes {
		if l.Problem != "" {
			fmt.Fprintf(out, "%s: what waits is not known now: %s\n", l.Partner, l.Problem)
		}
		if l.Queue.Aside > 0 {
			fmt.Fprintf(out, "%s: messages put aside because they cannot be read: %d; the log of the lanes nodes says why, and the reconciler brings back what was an order\n", l.Partner, l.Queue.Aside)
		}
		if l.Waits != "" {
			fmt.Fprintf(out, "%s: orders wait for the ledger: %s\n", l.Partner, l.Waits)
		}
	}
	return nil
}
