package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"manna/internal/config"
)

func newInit(e *env) *cobra.Command {
	var force bool
	var engines string
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented configuration to begin with",
		Long: "Writes a commented configuration (default: the file of --config) that `manna serve --dev`\n" +
			"runs as it is, beside `manna partner-sim`. An existing file is left alone. With --engines\n" +
			"it stands on the servers of a file that ops/local/up wrote.",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: arguments(files("yaml", "yml")),
		RunE: func(_ *cobra.Command, args []string) error {
			file := e.config
			if len(args) == 1 {
				file = args[0]
			}
			if err := writeStarter(file, engines, force); err != nil {
				return err
			}
			next := nextCommands(file)
			if e.json {
				out := json.NewEncoder(e.out)
				out.SetEscapeHTML(false)
				return out.Encode(struct {
					File string   `json:"file"`
					Next []string `json:"next"`
				}{file, next})
			}
			_, err := fmt.Fprintf(e.out, "Wrote %s. Next, each in a terminal of its own:\n\n  %s\n  %s\n  %s\n", file, next[0], next[1], next[2])
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite an existing file")
	cmd.Flags().StringVar(&engines, "engines", "", "`file` with queue, guard, ledger and archive on servers, like ops/local/run/engines.yaml")
	completeFlag(cmd, "engines", files("yaml", "yml"))
	return cmd
}

func writeStarter(file, engines string, force bool) error {
	var sections string
	rights := fs.FileMode(0o644)
	if engines != "" {
		var err error
		if _, sections, err = config.ReadEngines(engines); err != nil {
			return err
		}
		rights = 0o600 // it has passwords
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, mode, rights)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or overwrite it with --force", file)
	}
	if dir := filepath.Dir(file); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s: make it with `mkdir -p %s`, or name another file", dir, shellQuote(dir))
	}
	if err != nil {
		return fmt.Errorf("cannot write the configuration: %w: name a file in a directory that you may write to", err)
	}
	_, err = f.Write(config.Starter(time.Now(), sections))
	return errors.Join(err, f.Close())
}

// nextCommands are what to type after init, ready for a shell.
func nextCommands(file string) []string {
	serve := "manna serve --dev"
	if file != "manna.yaml" {
		serve += " --config " + shellQuote(file)
	}
	return []string{
		"manna partner-sim",
		serve,
		`curl -H 'Content-Type: application/json' -d '{"campaign":"welcome","user":"alice"}' http://127.0.0.1:8080/v1/claims`,
	}
}

// shellQuote makes s one word of a shell.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
