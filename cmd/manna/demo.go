package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/spf13/cobra"

	"manna/internal/demo"
)

func newDemo(e *env) *cobra.Command {
	o := demo.Options{Progress: os.Stderr}
	cmd := &cobra.Command{
		Use:        "demo",
		SuggestFor: []string{"drill", "load"},
		Short:      "Run the whole pipeline against slow, lying partners, and check every promise",
		Long: `Run the whole pipeline on this machine in about a minute: a server and three
partners as processes of their own, claims several times faster than the partners
take them, a fifth of them repeats, SIGKILL to the server half way. It ends with a
reconciliation, and with the promises checked from the partners' own books. Exit
code 1 where one was broken.

With --engines it is two fronts, three nodes for the lanes and one that reconciles,
on the servers that the file names. A front, a node of the lanes and, where commands
to kill and start it stand beside the file, the broker are killed.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Claims < 100 || o.Claims > 2_000_000 {
				return usageError{fmt.Errorf("--claims %d: from 100 to 2000000", o.Claims)}
			}
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1_000_000)
			}
			o.Quiet = e.json
			result, err := demo.Run(cmd.Context(), o)
			if i, ok := errors.AsType[*demo.Interrupted](err); ok {
				return partly{fmt.Errorf("%w %w", errInterrupted, i), i}
			}
			if err != nil {
				return err
			}
			if err := e.print(result, result.WriteText); err != nil {
				return err
			}
			if !result.Kept() {
				return errFound
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Claims, "claims", 40000, "`number` of requests, repeats included")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "`seed` of users, gifts and the partners' faults (default: a random one, which is shown)")
	cmd.Flags().BoolVar(&o.NoCrash, "no-crash", false, "leave the SIGKILLs out")
	cmd.Flags().StringVar(&o.Engines, "engines", "", "`file` with queue, guard, ledger and archive on servers, like ops/local/run/engines.yaml")
	completeFlag(cmd, "engines", files("yaml", "yml"))
	cmd.Flags().StringVar(&o.Keep, "keep", "", "`directory` to keep configuration, data and the processes' logs in")
	completeFlag(cmd, "keep", directories)
	return cmd
}
