package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// result is what a bench found.
type result struct {
	Bench   string `json:"bench"`
	Subject string `json:"subject"`
	// Value is ours, in Unit.
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Against []peer  `json:"against"`
	// Detail is more that was seen in the same run.
	Detail []figure `json:"detail,omitempty"`
}

// peer is what ours is measured against.
type peer struct {
	Subject string  `json:"subject"`
	Value   float64 `json:"value"`
	Ratio   float64 `json:"ratio"` // ours ÷ theirs
}

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (r *result) add(name string, value float64, unit string) {
	r.Detail = append(r.Detail, figure{name, value, unit})
}

func (r *result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "\n%s: %s %.6g %s\n", r.Bench, r.Subject, r.Value, r.Unit)
	for _, p := range r.Against {
		fmt.Fprintf(w, "  against %-26s %12.6g   ratio %.3f\n", p.Subject, p.Value, p.Ratio)
	}
	for _, f := range r.Detail {
		fmt.Fprintf(w, "  %-34s %12.6g %s\n", f.Name, f.Value, f.Unit)
	}
	return nil
}

// median of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// percentile of times that are sorted, in milliseconds.
func percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(int(p*float64(len(sorted))), len(sorted)-1)
	return sorted[at].Seconds() * 1e3
}
