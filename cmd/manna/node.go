package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"manna/console"
	"manna/console/client"
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
			return printNodes(cmd, e, func(ctx context.Context, a *admin, got *console.Nodes) error {
				return a.call(ctx, "GET", "/v1/admin/nodes", nil, got)
			}, func(ctx context.Context, r *console.Register) (console.Nodes, error) { return r.Nodes(ctx) })
		},
	}
	cmd.AddCommand(
		newNodeDeed(e, "lose NAME", "Declare that a node's process will never run again", `Declare that a node's process will never run again: its machine is gone, or another
process is to take its name. A process that runs all the same is fenced and ends.
What its log had and no archive has is lost; reports name it until it is retired.
Where another log takes its name, the stock that it had leased stays counted as
handed out.`),
		newNodeDeed(e, "retire NAME", "Declare that nothing more is to come of a node", `Declare that nothing more is to come of a node that has left or is lost: its log is in
the archive, or is given up. Reports do not wait for it any more.`),
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
			return printNodes(cmd, e, func(ctx context.Context, a *admin, got *console.Nodes) error {
				return a.call(ctx, "POST", "/v1/admin/nodes/"+args[0]+"/"+verb, q, got)
			}, func(ctx context.Context, r *console.Register) (console.Nodes, error) {
				return r.Declare(ctx, verb, args[0], q)
			})
		},
	}
	cmd.Flags().StringVar(&q.Why, "why", "", "`reason`, for the audit")
	cmd.Flags().StringVar(&q.Who, "who", "", "`name` of the person")
	return cmd
}

// printNodes asks the server of the configuration or, where none runs, the ledger.
func printNodes(cmd *cobra.Command, e *env, ask func(context.Context, *admin, *console.Nodes) error, look func(context.Context, *console.Register) (console.Nodes, error)) error {
	ctx := cmd.Context()
	var got console.Nodes
	a, c, err := e.admin()
	if err == nil {
		err = ask(ctx, a, &got)
	}
	if errors.Is(err, client.ErrNoServer) && c != nil {
		var r *console.Register
		var register io.Closer
		if r, register, err = node.OpenRegister(ctx, c, slog.New(slog.NewTextHandler(e.err, nil))); err != nil {
			return err
		}
		defer register.Close()
		got, err = look(ctx, r)
	}
	if err != nil {
		return err
	}
	return e.print(got, func(w io.Writer) error { return nodeTable(w, &got) })
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%v ago\t%v\t%s\t%s\t%s\n", m.Name, m.State, strings.Join(m.Roles, ","),
			m.Silent(n.Now).Round(time.Second), m.LogEnd, asOf, m.Version, m.Address)
	}
	return w.Flush()
}
