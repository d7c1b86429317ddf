package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"manna/delivery/partnertest"
	"manna/gift"
)

// partnerSim is the command's flags. Each flag that is given overrides the
// script's field of the same name.
type partnerSim struct {
	listen     string
	file       string
	rate       string
	latency    time.Duration
	retryAfter time.Duration
	lateBy     time.Duration
	down       []string
	flags      partnertest.Script
}

func newPartnerSim(e *env) *cobra.Command {
	p := &partnerSim{}
	cmd := &cobra.Command{
		Use:   "partner-sim",
		Short: "Serve a scripted partner that lies as it is told and keeps books",
		Long: `Serve a scripted partner until SIGTERM, and print its books at the end.

Grants go to /grant, queries to /orders/ID, the books are at /books, and a new
script may be posted to /script. Shares are from 0 to 1 and are drawn from the
seed, the order and the number of the call, so a rerun behaves alike. Every field
of a script file can also be seen at /script; flags win over the file.`,
		Example: `  manna partner-sim --rate 500/s --latency 20ms
  manna partner-sim --apply-then-timeout 0.05 --down 10s+5s --down 30s+5s:refuse`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd, e) },
	}
	f := cmd.Flags()
	f.StringVar(&p.listen, "listen", "127.0.0.1:9090", "`address` to serve on; port 0 takes a free one")
	f.StringVar(&p.file, "script", "", "JSON `file` with the script")
	f.StringVar(&p.rate, "rate", "", "calls it bears, like `500/s`; none: any number")
	f.DurationVar(&p.latency, "latency", 0, "time before a grant is applied")
	f.DurationVar(&p.retryAfter, "retry-after", time.Second, "what a 429 asks for")
	f.DurationVar(&p.lateBy, "late-by", 100*time.Millisecond, "how long after the caller gave up a late call is applied")
	f.StringArrayVar(&p.down, "down", nil, "down window `AFTER+FOR[:refuse]`, like 10s+5s; may be repeated")
	f.StringVar(&p.flags.Name, "name", "sim", "partner's `name` in its books")
	f.Uint64Var(&p.flags.Seed, "seed", 0, "seed of what is drawn")
	f.BoolVar(&p.flags.Dedupe, "dedupe", true, "dedupe by order id; a script file says for itself")
	f.BoolVar(&p.flags.ConflictOnRepeat, "conflict-on-repeat", false, "with --dedupe: answer a repeat with 409")
	f.BoolVar(&p.flags.Unauthorized, "unauthorized", false, "answer everything with 401")
	f.StringVar(&p.flags.Query, "query", partnertest.QueryAnswers, "queries: `answers`, pending or absent")
	f.IntVar(&p.flags.PendingFirst, "pending-first", 0, "answer an order's first `N` queries with pending")
	f.IntVar(&p.flags.FaultCalls, "fault-calls", 0, "only an order's first `N` calls go wrong; 0: any")
	for _, s := range p.shares() {
		f.Float64Var(s.value, s.flag, 0, s.usage)
	}
	completeFlag(cmd, "script", files("json"))
	completeFlag(cmd, "query", words(partnertest.QueryAnswers, partnertest.QueryPending, partnertest.QueryAbsent))
	return cmd
}

type shareFlag struct {
	flag, usage string
	value       *float64
}

func (p *partnerSim) shares() []shareFlag {
	s := &p.flags
	return []shareFlag{
		{"refuse", "`share` of orders refused for good", &s.Refuse},
		{"too-many", "`share` of calls answered 429", &s.TooMany},
		{"timeout", "`share` not applied and never answered", &s.Timeout},
		{"error-500", "`share` not applied and answered 500", &s.Error500},
		{"reset", "`share` not applied and reset", &s.Reset},
		{"late", "`share` applied only after the caller gave up", &s.Late},
		{"apply-then-timeout", "`share` applied and never answered", &s.ApplyThenTimeout},
		{"apply-then-500", "`share` applied and answered 500", &s.ApplyThen500},
		{"apply-then-reset", "`share` applied and reset", &s.ApplyThenReset},
		{"garbage", "`share` applied and answered with garbage", &s.Garbage},
		{"drip", "`share` applied and answered a byte at a time", &s.Drip},
		{"wrong-amount", "`share` granted with an amount 1 too high", &s.WrongAmount},
	}
}

func (p *partnerSim) run(cmd *cobra.Command, e *env) error {
	script, err := p.script(cmd.Flags())
	if err != nil {
		return usageError{err}
	}
	l, err := net.Listen("tcp", p.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: stop what listens there, or choose another with --listen (port 0 takes a free one)", p.listen)
	}
	if err != nil {
		return fmt.Errorf("--listen %s: %w", p.listen, err)
	}
	partner := partnertest.New(script)
	url := "http://" + l.Addr().String()
	if e.json {
		err = json.NewEncoder(e.out).Encode(map[string]string{"listening": url})
	} else {
		_, err = fmt.Fprintf(e.out, "partner sim listens on %s (grants %s/grant, queries %s/orders/ID, books %s/books)\n", url, url, url, url)
	}
	if err != nil {
		l.Close()
		return err
	}
	if err := partner.Serve(cmd.Context(), l); err != nil {
		return fmt.Errorf("partner sim on %s: %w", url, err)
	}
	books := partner.Books()
	if e.json {
		return json.NewEncoder(e.out).Encode(simSummary{
			Partner: books.Partner, Rate: books.Rate, Granted: len(books.Grants), Doubled: len(books.Doubled()),
			Arrivals: books.Arrivals, PeakPerSecond: books.PeakPerSecond, OverrunSeconds: books.OverrunSeconds,
			Truncated: books.Truncated, Calls: books.Calls,
		})
	}
	_, err = fmt.Fprint(e.out, books)
	return err
}

// simSummary is what --json prints at the end: the books without their lists.
type simSummary struct {
	Partner        string           `json:"partner"`
	Rate           float64          `json:"rate"`
	Granted        int              `json:"granted"`
	Doubled        int              `json:"doubled"`
	Arrivals       int              `json:"arrivals"`
	PeakPerSecond  int              `json:"peak_per_second"`
	OverrunSeconds int              `json:"overrun_seconds"`
	Truncated      bool             `json:"truncated,omitempty"`
	Calls          map[string]int64 `json:"calls"`
}

// script reads the file and puts the flags that were given over it.
func (p *partnerSim) script(flags *pflag.FlagSet) (partnertest.Script, error) {
	s := partnertest.Script{Dedupe: true}
	if p.file != "" {
		f, err := os.Open(p.file)
		if err != nil {
			return s, fmt.Errorf("--script: %w", err)
		}
		defer f.Close()
		if s, err = partnertest.ReadScript(f); err != nil {
			return s, fmt.Errorf("--script %s: %w", p.file, err)
		}
	}
	if err := p.override(&s, flags); err != nil {
		return s, err
	}
	return s, s.Check()
}

func (p *partnerSim) override(s *partnertest.Script, flags *pflag.FlagSet) error {
	if flags.Changed("rate") {
		rate, err := gift.ParseRate(p.rate)
		if err != nil {
			return fmt.Errorf("--rate: %w", err)
		}
		s.Rate = float64(rate)
	}
	if flags.Changed("latency") {
		d := partnertest.Duration(p.latency)
		s.Latency = partnertest.Span{Min: d, Max: d}
	}
	if flags.Changed("down") {
		s.Down = nil
		for _, text := range p.down {
			w, err := parseWindow(text)
			if err != nil {
				return err
			}
			s.Down = append(s.Down, w)
		}
	}
	given := &p.flags
	for flag, set := range map[string]func(){
		"retry-after":        func() { s.RetryAfter = partnertest.Duration(p.retryAfter) },
		"late-by":            func() { s.LateBy = partnertest.Duration(p.lateBy) },
		"name":               func() { s.Name = given.Name },
		"seed":               func() { s.Seed = given.Seed },
		"dedupe":             func() { s.Dedupe = given.Dedupe },
		"conflict-on-repeat": func() { s.ConflictOnRepeat = given.ConflictOnRepeat },
		"unauthorized":       func() { s.Unauthorized = given.Unauthorized },
		"query":              func() { s.Query = given.Query },
		"pending-first":      func() { s.PendingFirst = given.PendingFirst },
		"fault-calls":        func() { s.FaultCalls = given.FaultCalls },
	} {
		if flags.Changed(flag) {
			set()
		}
	}
	over := partnerSim{flags: *s}
	targets := over.shares()
	for i, from := range p.shares() {
		if flags.Changed(from.flag) {
			*targets[i].value = *from.value
		}
	}
	*s = over.flags
	return nil
}

// parseWindow reads "10s+5s" or "10s+5s:refuse".
func parseWindow(text string) (partnertest.Window, error) {
	span, by, _ := strings.Cut(text, ":")
	after, length, ok := strings.Cut(span, "+")
	var w partnertest.Window
	errAfter, errFor := w.After.UnmarshalText([]byte(after)), w.For.UnmarshalText([]byte(length))
	if !ok || errAfter != nil || errFor != nil {
		return w, fmt.Errorf("--down: %q: write AFTER+FOR like 10s+5s, or 10s+5s:refuse", text)
	}
	w.By = by
	return w, nil
}
