package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"manna/internal/config"
)

// print writes the report for people.
func (r report) print(out io.Writer) error {
	var b bytes.Buffer
	s := r.Server
	fmt.Fprintf(&b, "%s is valid.\n\n", r.File)
	fmt.Fprintf(&b, "Node %s keeps its data in %s; public API on %s, admin on %s.\n", s.Node, s.Data, s.Public, s.Admin)
	fmt.Fprintf(&b, "Durability %s; queue %s, guard %s, ledger %s; archive %s; reconciles at %q UTC.\n",
		s.Durability, s.Queue, s.Guard, s.Ledger, orNone(s.Archive), s.Cron)
	fmt.Fprintf(&b, "Claims from %s.\n", s.who())

	if len(r.Engines) > 0 {
		b.WriteString("\nDirectories and servers\n")
		r.printEngines(&b)
	}
	b.WriteString("\nCampaigns\n")
	for _, c := range r.Campaigns {
		c.print(&b)
	}
	b.WriteString("\nLanes\n")
	r.printLanes(&b)
	b.WriteString("\nPromises, if the whole stock is claimed at once\n")
	r.printPromises(&b)
	if len(r.Warnings) > 0 {
		fmt.Fprintf(&b, "\n%s\n", count(len(r.Warnings), "warning"))
		for _, w := range r.Warnings {
			fmt.Fprintf(&b, "%v\n", w)
		}
	}
	if !r.OK {
		broken := 0
		for _, p := range r.Promises {
			if !p.Kept {
				broken++
			}
		}
		if broken > 0 {
			fmt.Fprintf(&b, "\nFAILED: %s cannot be kept.\n", count(broken, "promise"))
		}
		if bad := r.badEngines(); len(bad) > 0 {
			fmt.Fprintf(&b, "\nFAILED: %s cannot be used now.\n", strings.Join(bad, ", "))
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// who says who may claim.
func (s *serverReport) who() string {
	switch {
	case s.Users && s.Callers > 0:
		return "users with a JWT, and " + count(s.Callers, "caller") + " that sign"
	case s.Users:
		return "users with a JWT"
	case s.Callers > 0:
		return count(s.Callers, "caller") + " that sign"
	}
	return "nobody: there is no auth, so only serve --dev runs"
}

func (r report) printEngines(b *bytes.Buffer) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, v := range r.Engines {
		verdict := "ok"
		if !v.OK {
			verdict = "FAILED"
		}
		said := v.Found
		if v.Problem != "" {
			said = strings.ReplaceAll(v.Problem, "\n", "\n  \t\t\t")
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", v.Key, v.Engine, verdict, said)
		for _, note := range v.Notes {
			fmt.Fprintf(w, "  \t\tnote\t%s\n", note)
		}
	}
	w.Flush()
}

// badEngines are the keys of the engines that cannot be used.
func (r report) badEngines() (keys []string) {
	for _, v := range r.Engines {
		if !v.OK {
			keys = append(keys, v.Key)
		}
	}
	return keys
}

func (c campaignReport) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "  %s: %s (%s), promise %s\n", c.Name, window(c.Opens, c.Closes), short(c.WindowS), short(c.PromiseS))
	scenes := make([]string, 0, len(c.Scenes))
	for _, s := range c.Scenes {
		name := s.Name
		if len(s.Stages) > 1 || s.Stages[0] != "" {
			name = strings.TrimSpace(name + " [" + strings.Join(s.Stages, " ") + "]")
		}
		if name != "" {
			scenes = append(scenes, name)
		}
	}
	if len(scenes) > 0 {
		fmt.Fprintf(b, "    scenes   %s\n", strings.Join(scenes, ", "))
	}
	who := "everyone"
	if c.Segment != "" {
		who = "users in " + c.Segment
	}
	fmt.Fprintf(b, "    claims   %s, %d in a scene\n", who, c.ClaimsPerUser)
	for _, g := range c.Gifts {
		stock := "unlimited"
		if g.Stock > 0 {
			stock = thousands(g.Stock)
		}
		fmt.Fprintf(b, "    gift     %s, stock %s", g.Name, stock)
		if g.LowUnder > 0 {
			fmt.Fprintf(b, "; below %s left %s instead", thousands(g.LowUnder), g.Instead)
		}
		b.WriteByte('\n')
		for _, i := range g.Items {
			fmt.Fprintf(b, "             %s\n", i)
		}
	}
}

// String reads "vip-30: 1 × V30 from midas, on android ios".
func (i itemReport) String() string {
	s := fmt.Sprintf("%s: %d", i.Item, i.Quantity)
	if i.SKU != "" {
		s += " × " + i.SKU
	}
	if i.Amount > 0 {
		s += fmt.Sprintf(" of %s %s", thousands(i.Amount), i.Currency)
	}
	s += " from " + i.Partner
	if len(i.Platforms) > 0 {
		s += ", on " + strings.Join(i.Platforms, " ")
	}
	return s
}

func (r report) printLanes(b *bytes.Buffer) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  PARTNER\tRATE\tIN FLIGHT\tFULL RATE IF ANSWERED IN\tTIMEOUT\tRETRIES\tBREAKER OPENS\tIF UNCLEAR")
	for _, l := range r.Lanes {
		retries := "none"
		if len(l.RetryS) > 0 {
			retries = fmt.Sprintf("%d over %s", len(l.RetryS), short(l.RetryTotalS))
		}
		unclear := "park"
		switch {
		case l.QueryURL != "":
			unclear = "ask"
		case l.Idempotent:
			unclear = "repeat"
		}
		fmt.Fprintf(w, "  %s\t%s\t%d\t%s\t%s\t%s\tat %s%% of %d+ calls in %s, for %s; slow is %s\t%s\n",
			l.Partner, l.Rate, l.MaxInFlight, short(min(l.AnswersWithinS, l.TimeoutS)), short(l.TimeoutS), retries,
			strconv.FormatFloat(l.Breaker.FailureRatio*100, 'f', -1, 64), l.Breaker.MinCalls, short(l.Breaker.WindowS),
			short(l.Breaker.OpenForS), short(l.Breaker.SlowCallS), unclear)
	}
	w.Flush()
}

func (r report) printPromises(b *bytes.Buffer) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  PARTNER\tCAMPAIGN\tORDERS\tWAITING\tTAKES\tPROMISE\t")
	for _, p := range r.Promises {
		orders, waiting, takes, verdict := thousands(p.Orders), thousands(p.Waiting), short(p.TakesS), "kept"
		switch {
		case p.Unbounded:
			orders, waiting, takes, verdict = "unlimited", "?", "?", "cannot be bounded: a gift has no stock"
		case !p.Kept:
			verdict = fmt.Sprintf("CANNOT BE KEPT: needs %s, less stock, or a promise of %s", p.Needs, short(p.TakesS))
		}
		if len(p.With) > 0 && !p.Unbounded {
			verdict += ", with " + strings.Join(p.With, ", ")
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Partner, p.Campaign, orders, waiting, takes, short(p.PromiseS), verdict)
	}
	w.Flush()
}

// window writes two moments in the zone that the file has them in.
func window(opens, closes time.Time) string {
	const day, clock = "2006-01-02", "15:04:05"
	_, from := opens.Zone()
	_, to := closes.Zone()
	end := closes.Format(day + " " + clock)
	if from == to && opens.Format(day) == closes.Format(day) {
		end = closes.Format(clock)
	}
	zone := closes.Format(" -07:00")
	if from != to {
		return opens.Format(day+" "+clock+" -07:00") + " to " + end + zone
	}
	return opens.Format(day+" "+clock) + " to " + end + zone
}

func short(seconds float64) string {
	d := time.Duration(min(seconds*float64(time.Second), 1<<62))
	if d < time.Minute {
		d = d.Round(time.Millisecond)
	}
	return config.Short(d)
}

// thousands writes 3,000,000.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes "1 error", "2 errors".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(int64(n)) + " " + what + "s"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
