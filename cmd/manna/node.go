package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"manna/console"
	"manna/console/client"
	"manna/internal/config"
	"manna/internal/node"
)

func newNode(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Show the nodes of a cluster, or declare what only a person can know of one",
		Long: `Show the nodes of a cluster, or declare what only a person can know of one. The
server of the configuration is asked; where none runs, the ledger is.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := registered(cmd, e, func(ctx context.Context, a *admin, got *console.Nodes) error {
				return a.call(ctx, "GET", "/v1/admin/nodes", nil, got)
			}, func(ctx context.Context, r *console.Register, _ *config.Config) (console.Nodes, error) {
				return r.Nodes(ctx)
			})
			return e.printNodes(&got, err)
		},
	}
	cmd.AddCommand(
		newNodeDeed(e, "lose NAME", "Declare that a node's process will never run again", `Declare that a node's process will never run again: its machine is gone, or another
process is to take its name. A process that runs all the same is fenced and ends.
What its log had and no archive has is lost; reports name it until it is retired.
From then on a process with another log may take its name, or one with an older copy
of its log. The stock that it had leased stays counted as handed out until it is settled.`),
		newNodeDeed(e, "retire NAME", "Declare that nothing more is to come of a node", `Declare that nothing more is to come of a node that has left or is lost: its log is in
the archive, or is given up. Reports do not wait for it any more.`),
		newNodeSettle(e),
	)
	return cmd
}

func newNodeDeed(e *env, use, short, long string) *cobra.Command {
	var q console.NodeRequest
	verb, _, _ := strings.Cut(use, " ")
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(q.Why) == "" {
				return usageError{errors.New("--why is missing: the audit keeps it")}
			}
			got, err := registered(cmd, e, func(ctx context.Context, a *admin, got *console.Nodes) error {
				return a.call(ctx, "POST", deedPath(args[0], verb), q, got)
			}, func(ctx context.Context, r *console.Register, _ *config.Config) (console.Nodes, error) {
				return r.Declare(ctx, verb, args[0], q)
			})
			return e.printNodes(&got, err)
		},
	}
	audited(cmd, &q)
	return cmd
}

func deedPath(node, verb string) string {
	return "/v1/admin/nodes/" + url.PathEscape(node) + "/" + verb
}

// audited gives a command the flags for what the audit keeps.
func audited(cmd *cobra.Command, q *console.NodeRequest) {
	cmd.Flags().StringVar(&q.Why, "why", "", "`reason`, for the audit")
	cmd.Flags().StringVar(&q.Who, "who", "", "`name` of the person")
}

func newNodeSettle(e *env) *cobra.Command {
	var q console.NodeRequest
	var data string
	cmd := &cobra.Command{
		Use:   "settle NAME",
		Short: "Give back the stock that a node had leased and did not hand out",
		Long: `Give back the stock that a node had leased and did not hand out: one that has left
or is lost. What it handed out is counted from its whole log, and nothing is given
back as long as a part of that may be missing.

Where the node has left in order, its log is read from the archive. Where it has not,
the end of its log is on its disk only: start it there again and stop it, which gives
back by itself what is left, or name its data directory with --data. It has to be the
node's own, as its last process left it: a copy that was taken before lacks what was
handed out since. No server may run on it.

Where another log has taken the node's name, what the old one had leased goes by the
name NAME@EPOCH, which settling NAME tells; --data is the data directory of the old log.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(q.Why) == "" {
				return usageError{errors.New("--why is missing: the audit keeps it")}
			}
			ask := func(ctx context.Context, a *admin, got *console.Settlement) error {
				return a.call(ctx, "POST", deedPath(args[0], "settle"), q, got)
			}
			if data != "" {
				ask = nil // the directory is here, and not where the server is
			}
			got, err := registered(cmd, e, ask, func(ctx context.Context, r *console.Register, c *config.Config) (console.Settlement, error) {
				logs := node.Archived(c)
				if data != "" {
					logs = node.Saved(data, slog.New(slog.NewTextHandler(e.err, nil)))
				}
				return r.Settle(ctx, args[0], q, logs)
			})
			if err != nil {
				return err
			}
			return e.print(got, func(w io.Writer) error { return settlementTable(w, &got) })
		},
	}
	audited(cmd, &q)
	cmd.Flags().StringVar(&data, "data", "", "the node's own data `directory`, in place of the archive")
	return cmd
}

func settlementTable(out io.Writer, s *console.Settlement) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Gifts) == 0 {
		fmt.Fprintf(w, "node %s has leased nothing\n", s.Node)
	} else {
		fmt.Fprintln(w, "CAMPAIGN\tGIFT\tLEASED\tUSED\tGIVEN BACK")
		for _, g := range s.Gifts {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", g.Campaign, g.Gift, g.Leased, g.Used, g.GivenBack)
		}
		fmt.Fprintf(w, "by its log up to %v in %s\n", s.LogEnd, s.Log)
	}
	for _, former := range s.Formers {
		fmt.Fprintf(w, "a former log of the name has leases too: manna node settle %s --data DIR\n", former)
	}
	return w.Flush()
}

// registered asks the server of the configuration or, where none runs or ask is nil, the
// ledger.
func registered[T any](cmd *cobra.Command, e *env, ask func(context.Context, *admin, *T) error, look func(context.Context, *console.Register, *config.Config) (T, error)) (got T, err error) {
	ctx := cmd.Context()
	a, c, err := e.admin()
	if err == nil && ask != nil {
		err = ask(ctx, a, &got)
	}
	if c != nil && (ask == nil || errors.Is(err, client.ErrNoServer)) {
		var r *console.Register
		var register io.Closer
		if r, register, err = node.OpenRegister(ctx, c, slog.New(slog.NewTextHandler(e.err, nil))); err != nil {
			return got, err
		}
		defer register.Close()
		got, err = look(ctx, r, c)
	}
	return got, err
}

func (e *env) printNodes(n *console.Nodes, err error) error {
	if err != nil {
		return err
	}
	return e.print(n, func(w io.Writer) error { return nodeTable(w, n) })
}

func nodeTable(out io.Writer, n *console.Nodes) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tROLES\tSEEN\tLOG\tIN LEDGER AS OF\tVERSION\tADDRESS")
	for _, m := range n.Nodes {
		asOf := "-"
		for _, b := range n.Behind {
			if b.Node == m.Name && !b.AsOf.IsZero() {
				asOf = n.Now.Sub(b.AsOf).Round(time.Second).String() + " ago"
			}
		}
		state := string(m.State)
		if m.Missed(n.Now) {
			state += ", silent"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%v ago\t%v\t%s\t%s\t%s\n", m.Name, state, strings.Join(m.Roles, ","),
			m.Silent(n.Now).Round(time.Second), m.LogEnd, asOf, m.Version, m.Address)
	}
	return w.Flush()
}
