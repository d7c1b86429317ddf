package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/node"
)

func newServe(e *env) *cobra.Command {
	var dev bool
	var level, role string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Accept claims and deliver them",
		Long: `Accept claims on listen.public and deliver them at the partners' pace; answer
operators on listen.admin. With queue, guard and ledger on servers several nodes do
this together, and --role says which part is this one's.

SIGHUP reads the configuration again: whole or not at all. SIGTERM or SIGINT
stops in order, within the configuration's shutdown; another one, a second later or
more, stops at once.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log %q: want debug, info, warn or error", level)}
			}
			roles, err := node.ParseRoles(role)
			if err != nil {
				return usageError{fmt.Errorf("--role: %w", err)}
			}
			return serve(cmd.Context(), e, node.Options{Dev: dev, Roles: roles, Version: programVersion()}, l)
		},
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "ask nobody who they are; listens on loopback only")
	cmd.Flags().StringVar(&level, "log", "info", "least `level` to log: debug, info, warn or error")
	cmd.Flags().StringVar(&role, "role", "front,lanes,reconcile", "`roles` of this node: accept claims, deliver orders, compare on schedule")
	completeFlag(cmd, "role", words("front", "lanes", "reconcile", "front,lanes,reconcile", "lanes,reconcile"))
	completeFlag(cmd, "log", words("debug", "info", "warn", "error"))
	return cmd
}

func serve(ctx context.Context, e *env, opts node.Options, level slog.Level) error {
	// From the first moment on: by default SIGHUP ends a process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	c, err := config.Load(e.config)
	if err != nil {
		return err
	}
	handler := slog.Handler(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: level}))
	if e.json {
		handler = slog.NewJSONHandler(e.err, &slog.HandlerOptions{Level: level})
	}
	logger := slog.New(handler)
	for _, w := range c.Warnings {
		logger.Warn("configuration", "warning", w.Error())
	}
	running := make(chan *node.Node, 1)
	stop := make(chan struct{})
	defer close(stop)
	go reload(e.config, logger, hangup, running, stop)
	opts.Config, opts.Logger = c, logger
	n, err := node.Open(ctx, opts)
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("%w: one process owns a data directory; stop the other, or set another `data` in %s", err, e.config)
	}
	if err != nil {
		return err
	}
	switch {
	case e.json:
		err = json.NewEncoder(e.out).Encode(map[string]string{"public": n.Public(), "admin": n.Admin(), "data": c.Data, "node": c.Node})
	case n.Public() == "":
		_, err = fmt.Fprintf(e.out, "node %s does its part as %s, operators are answered on http://%s\n", c.Node, role(opts.Roles), n.Admin())
	default:
		_, err = fmt.Fprintf(e.out, "claims are taken on http://%s/v1/claims, operators are answered on http://%s\n", n.Public(), n.Admin())
	}
	if err != nil {
		logger.Warn("cannot write to standard output", "err", err)
	}
	running <- n
	return n.Run(ctx)
}

// role writes roles as --role reads them.
func role(roles []node.Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ",")
}

// reload reads the configuration again on SIGHUP, once the node runs, until stop is
// closed.
func reload(file string, logger *slog.Logger, hangup <-chan os.Signal, running <-chan *node.Node, stop <-chan struct{}) {
	var n *node.Node
	select {
	case n = <-running:
	case <-stop:
		return
	}
	for {
		select {
		case <-hangup:
			c, err := config.Load(file)
			if err == nil {
				err = n.Reload(c)
			}
			if err != nil {
				logger.Error("configuration refused; the one in force goes on", "file", file, "err", err)
			}
		case <-stop:
			return
		}
	}
}
