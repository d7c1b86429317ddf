package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Exit codes: 0 done, 1 the work found something wrong, 2 usage.
const (
	exitDone  = 0
	exitWrong = 1
	exitUsage = 2
)

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errFound ends a command whose output has already said what is wrong: the
// exit code is 1 and nothing more is printed.
var errFound = errors.New("the work found something wrong")

// env is what every command shares.
type env struct {
	in       io.Reader
	out, err io.Writer
	config   string // --config
	json     bool   // --json
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	e := &env{in: in, out: out, err: errOut}
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFound):
		return exitWrong
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "manna: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(errOut, "manna: %v\n", err)
	return exitWrong
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "manna",
		Short:         "Accept every gift claim at once, deliver each exactly once, prove it afterwards",
		SilenceUsage:  true,
		SilenceErrors: true,
		// An unknown subcommand is a usage error, not help with exit code 0.
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&e.config, "config", "manna.yaml", "configuration `file`")
	root.PersistentFlags().BoolVar(&e.json, "json", false, "print one JSON document instead of text")
	root.AddCommand(
		newDemo(e), newServe(e), newInit(e), newCheck(e),
		newGrant(e), newOrder(e), newClaim(e),
		newPartner(e), newSwitch(e), newReconcile(e), newLog(e),
		newPartnerSim(e), newVersion(e),
	)
	return root
}

// usageArgs makes a positional-argument check a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nUsage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
