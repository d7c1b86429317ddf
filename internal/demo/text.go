package demo

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// WriteText writes the result for people.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d requests: %d claims with %d orders accepted, %d answered as duplicates, in %.0f s; all delivered after %.0f s\n",
		r.Requests, r.Claims, r.Orders, r.Duplicates, r.AcceptS, r.ElapsedS)
	fmt.Fprintf(&b, "%d SIGKILLs were survived\n\n", r.Kills)
	fmt.Fprintf(&b, "%-8s %8s %14s %14s %10s\n", "partner", "rate", "log: granted", "books: orders", "peak/s")
	for _, p := range r.Partners {
		fmt.Fprintf(&b, "%-8s %8v %14d %14d %10d\n", p.Partner, p.Rate, p.Granted, p.Books, p.PeakPerSecond)
	}
	if q := r.Reconcile; q != nil {
		fmt.Fprintf(&b, "\nreconciliation: expected %d, actual %d, in flight %d, refused %d, parked %d, missing %d, reissued %d\n\n",
			q.Expected, q.Actual, q.InFlight, q.Classes.Refused, q.Classes.Parked, q.Classes.Missing, q.Reissued)
	}
	for _, p := range r.Promises {
		mark := "✓"
		if !p.Kept {
			mark = "✗"
		}
		fmt.Fprintf(&b, "%s %d. %s: %s\n", mark, p.Number, p.Name, p.Detail)
	}
	for _, e := range r.Examples {
		fmt.Fprintf(&b, "    %s\n", e)
	}
	if r.KeptIn != "" {
		fmt.Fprintf(&b, "\neverything is kept in %s: try manna log cat --dir %s/%s/log --kind parked\n", r.KeptIn, r.KeptIn, cmp.Or(r.firstLog, "data"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
