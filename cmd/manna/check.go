package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"manna/internal/config"
	"manna/internal/node"
)

func newCheck(e *env) *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:        "check [FILE]",
		SuggestFor: []string{"plan"},
		Short:      "Say what is understood of a configuration, and whether its promises can be kept",
		Long: "Reads a configuration (default: the file of --config) and says what is understood of it:\n" +
			"the windows, the lanes, and for each partner how long the whole stock takes at its rate\n" +
			"against the campaign's promise. Servers that the file names are asked whether they could be\n" +
			"used now, and directories whether they could be written, unless --offline. The exit code is 1\n" +
			"for an invalid file, where a promise cannot be kept and where one of these does not do.",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: arguments(files("yaml", "yml")),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := e.config
			if len(args) == 1 {
				file = args[0]
			}
			return check(cmd.Context(), e, file, offline)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no server, and look at no directory")
	return cmd
}

func check(ctx context.Context, e *env, file string, offline bool) error {
	c, err := config.Load(file)
	if err == nil {
		err = checkPartners(c)
	}
	var found config.Errors
	if err != nil && !errors.As(err, &found) {
		found = config.Errors{{File: file, Message: err.Error()}}
		if !e.json {
			return err
		}
	}
	var engines []node.Verdict
	if found == nil && !offline {
		engines = node.CheckEngines(ctx, c)
	}
	if e.json {
		r := report{File: file, Errors: found}
		if found == nil {
			r = newReport(c, engines)
		}
		out := json.NewEncoder(e.out)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		if err := out.Encode(r); err != nil {
			return err
		}
		if !r.OK {
			return errFound
		}
		return nil
	}
	if found != nil {
		fmt.Fprintf(e.err, "%v\n\n%s is refused: %s\n", found, file, count(len(found), "error"))
		return errFound
	}
	r := newReport(c, engines)
	if err := r.print(e.out); err != nil {
		return err
	}
	if !r.OK {
		return errFound
	}
	return nil
}

// checkPartners makes each partner's adapter, which connects to nothing: it may
// refuse what the file alone does not show.
func checkPartners(c *config.Config) error {
	var found config.Errors
	for _, p := range c.Partners {
		adapter, err := node.Adapter(p)
		if err != nil {
			message := strings.TrimPrefix(err.Error(), "partner "+p.Name+": ")
			key := "partners." + p.Name
			for _, part := range []string{"body", "header"} {
				if strings.HasPrefix(message, part) {
					key += ".request." + part
				}
			}
			found = append(found, c.Problem(key, message, ""))
			continue
		}
		adapter.Close()
	}
	if found != nil {
		return found
	}
	return nil
}
