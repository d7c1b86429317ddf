package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"manna/fallbacklog"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/node"
)

func newLog(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into the fallback log",
		Long: `Look into the fallback log of the configuration's data directory, or of --dir.
A running server does not mind: nothing but repair and restore take the directory's
lock.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "`directory` with the log's segments (default: the configuration's data/log)")
	completeFlag(cmd, "dir", directories)
	where := func() (string, error) {
		if dir != "" {
			return dir, nil
		}
		c, err := config.Load(e.config)
		if err != nil {
			return "", fmt.Errorf("%w\n(or name the log's directory with --dir)", err)
		}
		return filepath.Join(c.Data, "log"), nil
	}
	cmd.AddCommand(newLogList(e, where), newLogCat(e, where), newLogVerify(e, where), newLogExport(e, where), newLogRepair(e, where), newLogRestore(e))
	return cmd
}

func newLogList(e *env, where func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the segments",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := where()
			if err != nil {
				return err
			}
			infos, err := fallbacklog.Segments(disk.OS{}, dir)
			if err != nil {
				return err
			}
			return e.print(map[string]any{"segments": append([]fallbacklog.SegmentInfo{}, infos...)}, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
				fmt.Fprintln(w, "segment\tnode\tstate\tbytes\trecords\tfirst\tlast\t")
				for _, s := range infos {
					state, records, first, last := "active", "-", "-", "-"
					if s.Sealed {
						state, records = "sealed", fmt.Sprint(s.Records)
						first, last = s.First.Format("2006-01-02 15:04:05"), s.Last.Format("2006-01-02 15:04:05")
					}
					if s.Damage != "" {
						state = "damaged"
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t\n", s.Number, s.Node, state, s.Bytes, records, first, last)
				}
				return w.Flush()
			})
		},
	}
}

func newLogVerify(e *env, where func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Read every byte and check it",
		Long: `Read every byte of the log and check frames, records, footers, the chain of hashes
and the indexes, and that it reaches as far as the lanes beside it have read.
Exit code 1 where anything is damaged.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := where()
			if err != nil {
				return err
			}
			reached, err := node.Reached(dir)
			if err != nil {
				return err
			}
			verdicts := []fallbacklog.Verdict{}
			sound, err := fallbacklog.Verify(disk.OS{}, dir, reached, func(v fallbacklog.Verdict) error {
				verdicts = append(verdicts, v)
				if !e.json {
					said := "sound"
					if len(v.Damage) > 0 {
						said = "DAMAGED"
					} else if !v.Sealed {
						said = "sound so far, active"
					}
					fmt.Fprintf(e.out, "%s  %d bytes  %s\n", v.Path, v.Bytes, said)
					for _, d := range v.Damage {
						fmt.Fprintf(e.out, "  %s\n", d)
					}
				}
				return cmd.Context().Err()
			})
			if err != nil {
				return err
			}
			if err := e.print(map[string]any{"sound": sound, "segments": verdicts}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d segments, %s\n", len(verdicts), map[bool]string{true: "all sound", false: "damage found"}[sound])
				return err
			}); err != nil {
				return err
			}
			if !sound {
				return errFound
			}
			return nil
		},
	}
}

func newLogRepair(e *env, where func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Salvage every record that validates from damaged segments",
		Long: `Salvage every record that validates from damaged segments. The damaged files are
kept beside the new ones as *.damaged. No server may run on the directory. Where
an archive still has the segment, ` + "`manna log restore`" + ` brings it back instead: then
nothing is lost.

The log remembers what could not be brought back. The next start makes each order
unknown whose outcome may be among it: its partner is asked, or gets the same key
again, or, where it can do neither, the order is parked. Reports of that time say
that they are incomplete. What nobody can tell is that a claim was there of which
no record is left: its user can claim again.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := where()
			if err != nil {
				return err
			}
			reached, err := node.Reached(dir)
			if err != nil {
				return err
			}
			done, err := fallbacklog.Repair(disk.OS{}, dir, reached)
			if errors.Is(err, disk.ErrLocked) {
				return fmt.Errorf("%w: stop the server that runs on it, then repair again", err)
			}
			if err != nil {
				return err
			}
			return e.print(map[string]any{"repaired": append([]fallbacklog.Repaired{}, done...)}, func(w io.Writer) error {
				if len(done) == 0 {
					_, err := fmt.Fprintln(w, "nothing to repair")
					return err
				}
				whole := true
				for _, r := range done {
					whole = whole && r.Lost == 0
					aside := "nothing was there"
					if r.Aside != "" {
						aside = "the damaged file is " + r.Aside
					}
					lost := fmt.Sprintf("%d bytes lost", r.Lost)
					if r.Lost < 0 {
						lost = "all lost"
					}
					fmt.Fprintf(w, "segment %d: %d records kept, %s; %s\n", r.Segment, r.Kept, lost, aside)
				}
				if whole {
					_, err := fmt.Fprintln(w, "No record was lost.")
					return err
				}
				_, err := fmt.Fprintln(w, "The next start makes orders unknown whose outcome may have been lost; reports of that time are incomplete.")
				return err
			})
		},
	}
}
