// Command local brings real servers up and down on this machine: see the package
// engines, and README.md in the folder above.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"manna/ops/local/engines"
)

const usage = `usage: ops/local/COMMAND [--run DIR] [NAME...]

  up      bring servers up, all if none is named; install what is missing
  down    end servers in order, all if none is named; --wipe removes all data too
  status  show how they are; --json for programs
  start   bring up exactly these
  kill    end these with SIGKILL
  pause   stop these with SIGSTOP; they stay connected and say nothing
  resume  let paused ones go on

The servers: %s.
All they have is in one directory: --run, else $MANNA_RUN, else ops/local/run.
`

// The exit statuses.
const (
	done = iota
	wrong
	misused
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintf(stderr, usage, strings.Join(engines.Names(), ", ")) }
	path := flags.String("run", os.Getenv("MANNA_RUN"), "")
	asJSON := flags.Bool("json", false, "")
	wipe := flags.Bool("wipe", false, "")
	words, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return done
	}
	if err != nil {
		return misused
	}
	if len(words) == 0 {
		flags.Usage()
		return misused
	}
	if *path == "" {
		*path = filepath.Join("ops", "local", "run")
	}
	dir, err := engines.Open(ctx, *path, stderr)
	if err == nil {
		verb, names := words[0], words[1:]
		switch verb {
		case "up":
			err = up(ctx, dir, names, stdout)
		case "down":
			if err = dir.Down(ctx, names...); err == nil && *wipe {
				err = dir.Wipe(ctx)
			}
		case "status":
			err = status(ctx, dir, names, *asJSON, stdout)
		case "start":
			err = dir.Start(ctx, names...)
		case "kill":
			err = dir.Kill(ctx, names...)
		case "pause":
			err = dir.Pause(ctx, names...)
		case "resume":
			err = dir.Resume(ctx, names...)
		default:
			flags.Usage()
			return misused
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return wrong
	}
	return done
}

// parse lets flags stand before, between and after the words.
func parse(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
			return words, err
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

func up(ctx context.Context, dir *engines.Dir, names []string, stdout io.Writer) error {
	if err := dir.Up(ctx, names...); err != nil {
		return err
	}
	if err := writeCommands(dir.Path()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n%s\n", filepath.Join(dir.Path(), "engines.yaml"), filepath.Join(dir.Path(), "env"))
	return nil
}

// writeCommands puts kill and start beside engines.yaml, for programs that know
// nothing but where that is.
func writeCommands(run string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, verb := range []string{"kill", "start"} {
		text := fmt.Sprintf("#!/bin/sh\nexec %s %s --run %s \"$@\"\n", quoted(self), verb, quoted(run))
		if err := os.WriteFile(filepath.Join(run, verb), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// quoted is a word of the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// status is wrong unless all it looked at are up.
func status(ctx context.Context, dir *engines.Dir, names []string, asJSON bool, stdout io.Writer) error {
	all, err := dir.Status(ctx, names...)
	if err != nil {
		return err
	}
	if asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = out.Encode(map[string]any{"run": dir.Path(), "servers": all})
	} else {
		for _, st := range all {
			fmt.Fprintf(stdout, "%-10s  %-6s  %-15s  %7s  %s\n", st.Name, st.State, st.Address, pid(st), remark(st))
		}
	}
	for _, st := range all {
		if st.State != engines.StateUp && err == nil {
			err = fmt.Errorf("%s is %s", st.Name, st.State)
		}
	}
	return err
}

func pid(st engines.Status) string {
	if st.PID == 0 {
		return "-"
	}
	return fmt.Sprint(st.PID)
}

func remark(st engines.Status) string {
	if st.State == engines.StateUp {
		return fmt.Sprintf("answers in %.1f ms", st.AnswerMS)
	}
	return st.Error
}
