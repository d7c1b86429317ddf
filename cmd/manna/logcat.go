package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// logFilter picks records. What is empty does not matter.
type logFilter struct {
	order, claim, user, partner, kind, from, to string

	orderID  gift.OrderID
	claimID  gift.ClaimID
	kindOf   fallbacklog.Kind
	min, max time.Time
}

func (f *logFilter) flags(e *env, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.order, "order", "", "only records of this order `id`, its claim's included")
	cmd.Flags().StringVar(&f.claim, "claim", "", "only records of this claim `id` and its orders")
	cmd.Flags().StringVar(&f.user, "user", "", "only claims of this `user`, and what happened to them")
	cmd.Flags().StringVar(&f.partner, "partner", "", "only records about this `partner`")
	cmd.Flags().StringVar(&f.kind, "kind", "", "only records of this `kind`: claimed, granted, …")
	cmd.Flags().StringVar(&f.from, "from", "", "only records at or after this `time`")
	cmd.Flags().StringVar(&f.to, "to", "", "only records before this `time`")
	completeFlag(cmd, "partner", e.configured(partnerNames))
	completeFlag(cmd, "kind", words(kindNames()...))
}

func (f *logFilter) parse() (err error) {
	if f.order != "" {
		if f.orderID, err = gift.ParseOrderID(f.order); err != nil {
			return usageError{fmt.Errorf("--order: %w", err)}
		}
	}
	if f.claim != "" {
		if f.claimID, err = gift.ParseClaimID(f.claim); err != nil {
			return usageError{fmt.Errorf("--claim: %w", err)}
		}
	}
	if f.kind != "" {
		if f.kindOf, err = fallbacklog.ParseKind(f.kind); err != nil {
			return usageError{fmt.Errorf("--kind: %w", err)}
		}
	}
	for text, at := range map[*string]*time.Time{&f.from: &f.min, &f.to: &f.max} {
		if *text != "" {
			if *at, err = time.Parse(time.RFC3339, *text); err != nil {
				return usageError{fmt.Errorf("%q is no time: write it like 2027-02-05T20:00:00+08:00", *text)}
			}
		}
	}
	return nil
}

// matcher remembers whose claims have been seen, so that what happened to them
// later can be told.
func (f *logFilter) matcher() func(*fallbacklog.Record) bool {
	claims := make(map[gift.ClaimID]bool)
	return func(rec *fallbacklog.Record) bool {
		if f.user != "" {
			switch {
			case rec.Claim != nil && rec.Claim.User == f.user:
				claims[rec.Claim.ID] = true
			case rec.Event != nil && claims[rec.Event.Claim]:
			default:
				return false
			}
		}
		if f.kindOf != 0 && rec.Kind != f.kindOf || !f.min.IsZero() && rec.Time.Before(f.min) || !f.max.IsZero() && !rec.Time.Before(f.max) {
			return false
		}
		if f.order != "" {
			_, in := orderOf(rec, f.orderID)
			if !in {
				return false
			}
		}
		if f.claim != "" && !(rec.Claim != nil && rec.Claim.ID == f.claimID || rec.Event != nil && rec.Event.Claim == f.claimID) {
			return false
		}
		return f.partner == "" || aboutPartner(rec, f.partner)
	}
}

func orderOf(rec *fallbacklog.Record, id gift.OrderID) (gift.Order, bool) {
	if rec.Claim != nil {
		return rec.Claim.Order(id)
	}
	return gift.Order{}, rec.Event != nil && rec.Event.Order == id
}

func aboutPartner(rec *fallbacklog.Record, partner string) bool {
	if rec.Claim != nil {
		for _, o := range rec.Claim.Orders {
			if o.Partner == partner {
				return true
			}
		}
	}
	return rec.Event != nil && rec.Event.Partner == partner
}

func newLogCat(e *env, where func() (string, error)) *cobra.Command {
	var f logFilter
	cmd := &cobra.Command{
		Use:   "cat",
		Short: "Print records, one a line",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return eachRecord(cmd, where, &f, e.out, func(w io.Writer, rec *fallbacklog.Record) error {
				if e.json {
					return json.NewEncoder(w).Encode(rec)
				}
				_, err := fmt.Fprintln(w, recordLine(rec))
				return err
			})
		},
	}
	f.flags(e, cmd)
	return cmd
}

func newLogExport(e *env, where func() (string, error)) *cobra.Command {
	var f logFilter
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write records as JSON, one document a line",
		Long:  "Write records as JSON, one document a line, for other tools: manna log export --kind granted | gzip > granted.ndjson.gz",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return eachRecord(cmd, where, &f, e.out, func(w io.Writer, rec *fallbacklog.Record) error { return json.NewEncoder(w).Encode(rec) })
		},
	}
	f.flags(e, cmd)
	return cmd
}

func eachRecord(cmd *cobra.Command, where func() (string, error), f *logFilter, out io.Writer, write func(io.Writer, *fallbacklog.Record) error) error {
	if err := f.parse(); err != nil {
		return err
	}
	dir, err := where()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 64<<10)
	match := f.matcher()
	for rec, err := range fallbacklog.Records(disk.OS{}, dir) {
		if err = errors.Join(err, cmd.Context().Err()); err != nil {
			return errors.Join(w.Flush(), err)
		}
		if match(rec) {
			if err := write(w, rec); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

func recordLine(rec *fallbacklog.Record) string {
	line := fmt.Sprintf("%-14v %s %-9v", rec.At, rec.Time.UTC().Format("2006-01-02 15:04:05.000"), rec.Kind)
	switch {
	case rec.Claim != nil:
		line += fmt.Sprintf(" claim %v user %s campaign %s gift %s", rec.Claim.ID, rec.Claim.User, rec.Claim.Campaign, rec.Claim.Gift)
		for _, o := range rec.Claim.Orders {
			line += fmt.Sprintf(" order %v → %s", o.ID, o.Partner)
		}
	case rec.Event != nil:
		ev := rec.Event
		line += fmt.Sprintf(" order %v partner %s attempts %d", ev.Order, ev.Partner, ev.Attempts)
		for _, part := range []struct{ name, value string }{{"reference", ev.Reference}, {"code", ev.Code}, {"reason", ev.Reason}, {"run", ev.Run}} {
			if part.value != "" {
				line += fmt.Sprintf(" %s %q", part.name, part.value)
			}
		}
		if !ev.Due.IsZero() {
			line += " due " + ev.Due.Format("15:04:05.000")
		}
	case rec.Sent != nil:
		line += fmt.Sprintf(" queue %s through %v", rec.Sent.Queue, rec.Sent.Through)
	case rec.Stock != nil:
		line += fmt.Sprintf(" %s/%s %d %s", rec.Stock.Campaign, rec.Stock.Gift, rec.Stock.Count, rec.Stock.Reason)
	case rec.Switch != nil:
		line += fmt.Sprintf(" %s %s by %s: %s", rec.Switch.Name, rec.Switch.Mode, rec.Switch.Who, rec.Switch.Why)
	case rec.Loss != nil:
		line += fmt.Sprintf(" %v; orders in doubt %d", rec.Loss, rec.Loss.Doubts)
	}
	return line
}
