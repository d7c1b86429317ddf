package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"manna/breaker"
	"manna/console"
)

// switchModes are the words of the command line for the modes.
var switchModes = [...]struct {
	word string
	mode breaker.Mode
}{{"open", breaker.HeldOpen}, {"closed", breaker.HeldClosed}, {"auto", breaker.Automatic}}

func newSwitch(e *env) *cobra.Command {
	var why, who string
	cmd := &cobra.Command{
		Use:   "switch [NAME open|closed|auto]",
		Short: "Show the switches of a running server, or hold one",
		Long: `Without arguments: show every switch.

	manna switch partner/midas open --why "midas asked for a pause"
	manna switch partner/midas closed --why "their monitoring lies"
	manna switch partner/midas auto

open lets no call through, closed lets every call through, auto leaves it to the
breaker. A held switch stays held over restarts until it is set to auto.`,
		Args: usageArgs(func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return errors.New("give no argument, or a switch's name and open, closed or auto")
			}
			return nil
		}),
		ValidArgsFunction: arguments(e.configured(switchNames), words("open", "closed", "auto")),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listSwitches(cmd, e)
			}
			request := console.SwitchRequest{Why: why, Who: who}
			known := false
			for _, m := range switchModes {
				if m.word == args[1] {
					request.Mode, known = m.mode, true
				}
			}
			if !known {
				return usageError{fmt.Errorf("%q: a switch is set to open, closed or auto", args[1])}
			}
			if request.Mode != breaker.Automatic && strings.TrimSpace(why) == "" {
				return usageError{errors.New("--why is missing: whoever finds the switch held tomorrow will ask")}
			}
			a, _, err := e.admin()
			if err != nil {
				return err
			}
			var s breaker.Snapshot
			if err := a.call(cmd.Context(), "POST", "/v1/admin/switches/"+args[0], request, &s); err != nil {
				return err
			}
			return e.print(s, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is %v, %v\n", s.Name, s.Mode, s.State)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "`reason`, for whoever finds the switch held")
	cmd.Flags().StringVar(&who, "who", "", "`name` of the person")
	return cmd
}

func listSwitches(cmd *cobra.Command, e *env) error {
	a, _, err := e.admin()
	if err != nil {
		return err
	}
	var got struct {
		Switches []console.Switch `json:"switches"`
	}
	if err := a.call(cmd.Context(), "GET", "/v1/admin/switches", nil, &got); err != nil {
		return err
	}
	return e.print(got, func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "switch\tmode\tstate\tcalls\tfailures\tsince\twho\twhy")
		for _, s := range got.Switches {
			fmt.Fprintf(w, "%s\t%v\t%v\t%d\t%d\t%s\t%s\t%s\n", s.Name, s.Mode, s.State, s.Calls, s.Failures, s.Since.Format("2006-01-02 15:04:05"), s.Who, s.Why)
		}
		return w.Flush()
	})
}
