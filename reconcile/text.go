package reconcile

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// textListed is how many discrepancies the text shows.
const textListed = 20

// WriteText writes the report for people, at most 100 columns wide where names
// are short.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	status := "complete"
	if !r.Complete {
		status = "INCOMPLETE"
	}
	if r.DryRun {
		status += ", dry run"
	}
	fmt.Fprintf(&b, "Reconciliation %s: %s\n", r.Run, status)
	fmt.Fprintf(&b, "Orders claimed %s; taken %s in %.1f s.\n", r.window(), r.Taken.Format("2006-01-02 15:04:05"), r.TookS)
	for _, why := range slices.Concat(r.Incomplete, r.Later) {
		fmt.Fprintf(&b, "  ! %s\n", why)
	}
	r.writeNodes(&b)
	b.WriteByte('\n')
	c := r.Classes
	line := func(name string, n int64, bar bool) {
		text := fmt.Sprintf("  %-12s %14s", name, grouped(n))
		if bar && r.Expected > 0 {
			text += fmt.Sprintf("  %s %5.1f %%", meter(n, r.Expected, 40), 100*float64(n)/float64(r.Expected))
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	line("expected", r.Expected, false)
	line("actual", r.Actual, true)
	line("in flight", r.InFlight, true)
	line("refused", c.Refused, true)
	line("parked", c.Parked, true)
	rest := r.Expected - r.Actual - r.InFlight - c.Refused - c.Parked
	check := ""
	if rest != c.Open() {
		check = ": THIS DOES NOT ADD UP"
	}
	fmt.Fprintf(&b, "\n  expected − actual − in flight − refused − parked = %s (missing %s, unknown %s)%s\n",
		grouped(rest), grouped(c.Missing), grouped(c.Unknown), check)
	fmt.Fprintf(&b, "  reissued %s; gate %s\n", grouped(r.Reissued), r.Gate)
	if c.Unexpected+c.Duplicate > 0 {
		fmt.Fprintf(&b, "\n  ALARM: %s granted without a claim, %s granted more than once\n", grouped(c.Unexpected), grouped(c.Duplicate))
	}
	if r.GivenTwice > 0 {
		fmt.Fprintf(&b, "\n  ALARM: %s claims given two gifts\n", grouped(r.GivenTwice))
	}
	r.writePartners(&b)
	r.writeDiscrepancies(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) window() string {
	text := moment(r.From) + " to " + moment(r.To) + " UTC"
	if r.Campaign != "" {
		text += " in " + r.Campaign
	}
	return text
}

func moment(t time.Time) string {
	t = t.UTC()
	switch {
	case t.Equal(t.Truncate(time.Minute)):
		return t.Format("2006-01-02 15:04")
	case t.Equal(t.Truncate(time.Second)):
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("2006-01-02 15:04:05.000")
}

// writePartners shows how far each partner has come.
func (r *Report) writePartners(b *strings.Builder) {
	if len(r.Partners) == 0 {
		return
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "partner\texpected\tactual\t\tin flight\tmissing\tunknown\trefused\tparked\twaiting\t")
	for _, p := range r.Partners {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", orDash(p.Partner), grouped(p.Expected), grouped(p.Actual), meter(p.Actual, p.Expected, 10),
			grouped(p.Classes.InFlight), grouped(p.Classes.Missing), grouped(p.Classes.Unknown), grouped(p.Classes.Refused), grouped(p.Classes.Parked), grouped(p.Backlog))
	}
	t.Flush()
}

func (r *Report) writeDiscrepancies(b *strings.Builder) {
	if r.Found == 0 {
		b.WriteString("\n  No discrepancies")
		if !r.Complete {
			b.WriteString(" in what could be compared")
		}
		b.WriteString(".\n")
		return
	}
	shown := r.Discrepancies[:min(len(r.Discrepancies), textListed)]
	if int64(len(shown)) < r.Found {
		fmt.Fprintf(b, "\n  %s discrepancies; the first %d:\n", grouped(r.Found), len(shown))
	} else {
		fmt.Fprintf(b, "\n  %s discrepancies:\n", grouped(r.Found))
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  class\torder\tpartner\tage\tamount")
	for _, d := range shown {
		amount := ""
		if d.Amount != 0 {
			amount = strconv.FormatInt(d.Amount, 10)
		}
		if d.Granted != nil {
			amount += " claimed, " + strconv.FormatInt(*d.Granted, 10) + " granted"
		}
		if len(d.Gifts) > 0 {
			amount = fmt.Sprintf("claim %v: %s", d.ClaimID, strings.Join(d.Gifts, " and "))
		}
		fmt.Fprintf(t, "  %s\t%v\t%s\t%v\t%s\n", d.Class, d.OrderID, orDash(d.Partner), time.Duration(d.AgeS)*time.Second, orDash(amount))
	}
	t.Flush()
	if int64(len(shown)) < r.Found && r.Files != "" {
		fmt.Fprintf(b, "  all of them: %s%s\n", r.Files, linesEnding)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// meter draws n of all as a bar of width characters. What is there is never
// drawn as nothing.
func meter(n, all int64, width int) string {
	if all <= 0 {
		return strings.Repeat(" ", width)
	}
	eighths := int(float64(n) / float64(all) * float64(width) * 8)
	if n > 0 {
		eighths = max(eighths, 1)
	}
	eighths = min(max(eighths, 0), width*8)
	bar := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		bar += string([]rune("▏▎▍▌▋▊▉")[part-1])
	}
	return bar + strings.Repeat(" ", width-(eighths+7)/8)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
