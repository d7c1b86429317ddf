package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes: 0 done, 1 the work found something wrong, 2 usage.
const (
	exitDone  = 0
	exitWrong = 1
	exitUsage = 2
)

// env is what every command shares.
type env struct {
	in       io.Reader
	out, err io.Writer
	config   string // --config
	json     bool   // --json
	unknown  error  // a word that names no command, found where help was asked for
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	e := &env{in: in, out: out, err: errOut}
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = e.unknown
	}
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFound):
		return exitWrong
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errInterrupted
	}
	// Flags after one that is unknown have not been read.
	return fail(out, errOut, e.json || wantsJSON(args), err)
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "manna",
		Short: "Accept every gift claim at once, deliver each exactly once, prove it afterwards",
		Long: `Accept every gift claim at once, deliver each exactly once, prove it afterwards.

Exit code 0 means done, 1 that the work failed or found something wrong, 2 that the
command line is wrong. With --json a command prints one JSON document; one that
failed prints {"error":{"code","message",…}}.`,
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
		newPartner(e), newSwitch(e), newNode(e), newReconcile(e), newLog(e),
		newPartnerSim(e), newVersion(e),
	)
	completeRoot(root)
	checkHelp(e, root)
	return root
}

// usageArgs makes a positional-argument check a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if cmd.HasSubCommands() && len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nUsage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// checkHelp makes a word that names no command a usage error where help is asked
// for too: cobra answers `manna nonsense --help` and `manna help nonsense` before
// it looks at the word.
func checkHelp(e *env, root *cobra.Command) {
	show := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if word := cmd.Flags().Arg(0); word != "" && cmd.HasSubCommands() {
			e.unknown = unknownCommand(cmd, word)
			return
		}
		show(cmd, args)
	})
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Args = func(_ *cobra.Command, args []string) error {
			topic, rest, err := root.Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 && topic.HasSubCommands() {
				return unknownCommand(topic, rest[0])
			}
			return nil
		}
	}
}

// unknownCommand says which commands there are, the likely ones first.
func unknownCommand(parent *cobra.Command, word string) error {
	text := fmt.Sprintf("unknown command %q for %q", word, parent.CommandPath())
	parent.SuggestionsMinimumDistance = 2 // letters that may differ
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usageError{fmt.Errorf("%s\nThere are: %s", text, strings.Join(names, ", "))}
}

// print writes v as one JSON document, or as text makes it.
func (e *env) print(v any, text func(io.Writer) error) error {
	if e.json {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	return text(e.out)
}
