package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"manna/fallbacklog"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/node"
)

func newLogRestore(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "restore [SEGMENT…]",
		Short: "Bring segments back from the archive",
		Long: `Bring sealed segments of the configuration's node back from its archive, where they
are missing or damaged, or were repaired with a loss: the named ones, or all that the
archive has. What was in their place is kept as *.damaged. No server may run on the
directory, and --dir is not heeded: the node and the archive are the configuration's.`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			var numbers []uint32
			for _, arg := range args {
				n, err := strconv.ParseUint(arg, 10, 32)
				if err != nil || n == 0 {
					return usageError{fmt.Errorf("%q is no segment's number: see manna log ls", arg)}
				}
				numbers = append(numbers, uint32(n))
			}
			c, err := config.Load(e.config)
			if err != nil {
				return err
			}
			if c.Archive.URL == "" {
				return fmt.Errorf("%s has no archive: name one with archive: {url: …}, or salvage what validates with manna log repair", c.File)
			}
			b, err := node.OpenBucket(c)
			if err != nil {
				return err
			}
			defer b.Close()
			done, err := fallbacklog.Restore(cmd.Context(), b, c.Node, disk.OS{}, filepath.Join(c.Data, "log"), numbers...)
			if errors.Is(err, disk.ErrLocked) {
				return fmt.Errorf("%w: stop the server that runs on it, then restore again", err)
			}
			if err != nil {
				return err
			}
			return e.print(map[string]any{"restored": append([]fallbacklog.Restored{}, done...)}, func(w io.Writer) error {
				brought := 0
				for _, r := range done {
					if r.Bytes == 0 {
						continue
					}
					brought++
					aside := "nothing was in its place"
					if r.Aside != "" {
						aside = "what was in its place is " + r.Aside
					}
					fmt.Fprintf(w, "segment %d: %d bytes brought back; %s\n", r.Segment, r.Bytes, aside)
				}
				_, err := fmt.Fprintf(w, "%s brought back, %d sound already\n", count(brought, "segment"), len(done)-brought)
				return err
			})
		},
	}
}
