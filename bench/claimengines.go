package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// engineSegments makes segments small enough for most of the log to be archived
	// while the front runs.
	engineSegments = "log: {segment_bytes: 8MiB}\n"
	// restWithin bounds the wait for a server that still works behind its answers.
	restWithin = 2 * time.Minute
	// restShare is the share of a processor below which a server rests.
	restShare = 0.05
)

// claimEngines loads a front on all engines and the embedded server in turns, and
// compares the processor time that each process took for a claim, with everything
// that it does behind its answers.
func claimEngines(ctx context.Context, o *options) (*result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := readEngines(o.engines)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(o.temp, "manna")
	if err := buildManna(ctx, binary); err != nil {
		return nil, err
	}
	front, err := startManna(ctx, o, binary, "front", engineSegments+e.sections(), "--role", "front")
	if err != nil {
		return nil, err
	}
	defer front.close()
	embedded, err := startManna(ctx, o, binary, "embedded", engineSegments)
	if err != nil {
		return nil, err
	}
	defer embedded.close()
	subjects := []*costly{{subject: front}, {subject: embedded}}
	for round := range o.rounds + 1 {
		for _, s := range subjects {
			length := o.round
			if round == 0 {
				length = warmUp
			}
			if err := s.round(ctx, length, round > 0); err != nil {
				return nil, fmt.Errorf("%s: %w", s.process.name, err)
			}
			if round > 0 {
				fmt.Fprintf(o.out, "round %d  %-10s%8.0f claims/s, so far %6.1f µs each\n", round, s.process.name, s.rates[round-1], s.each())
			}
		}
	}
	seen, err := front.metrics(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range subjects {
		if err := s.process.stop(); err != nil {
			return nil, err
		}
	}
	r, err := perClaim(subjects)
	if err != nil {
		return nil, err
	}
	r.add("claims that went without the guard", seen["manna_guard_failures_total"], "")
	r.add("records in PostgreSQL", seen["manna_ledger_records_total"], "before the end")
	r.add("segments in the bucket", seen["manna_archive_segments_total"], "before the end")
	if seen["manna_guard_failures_total"] > 0.01*float64(front.load.answered()) {
		return nil, fmt.Errorf("%.0f of %d claims went without the guard: memcached is too slow just now to be measured", seen["manna_guard_failures_total"], front.load.answered())
	}
	return r, nil
}

// costly is a server with what its rounds cost.
type costly struct {
	*subject
	claims  int
	seconds float64 // of processor time
}

// each is the processor time of one claim, in microseconds.
func (c *costly) each() float64 { return c.seconds * 1e6 / float64(c.claims) }

// round loads the server and waits until it rests again.
func (c *costly) round(ctx context.Context, d time.Duration, counts bool) error {
	before, err := c.processorTime(ctx)
	if err != nil {
		return err
	}
	answered := c.load.answered()
	n, _, err := c.load.run(ctx, d)
	if err != nil {
		return err
	}
	after, err := c.rest(ctx)
	if err != nil {
		return err
	}
	if counts {
		c.rates = append(c.rates, float64(n)/d.Seconds())
		c.claims += c.load.answered() - answered
		c.seconds += after - before
	}
	return nil
}

// perClaim compares what the two took, which have ended.
func perClaim(subjects []*costly) (*result, error) {
	r := &result{Unit: "µs of the front's processor time per claim"}
	for i, s := range subjects {
		claims, fed, err := s.logged()
		if err != nil {
			return nil, err
		}
		if i == 0 && fed < claims {
			return nil, fmt.Errorf("the front ended with %d of %d claims in the queue: its work is not done", fed, claims)
		}
		cpu, peak := s.process.used()
		name := s.process.name
		r.add(name+" claims", float64(claims), "")
		r.add(name+" rate", median(s.rates), "claims/s")
		r.add(name+" lowest round", slices.Min(s.rates), "claims/s")
		r.add(name+" highest round", slices.Max(s.rates), "claims/s")
		r.add(name+" with its start and end", float64(cpu.Microseconds())/float64(claims), "µs per claim")
		r.add(name+" peak memory", float64(peak)/(1<<20), "MiB")
	}
	ours, theirs := subjects[0].each(), subjects[1].each()
	r.Value, r.Against = ours, []peer{{"the embedded server", theirs, ours / theirs}}
	return r, nil
}

// rest waits until the server has nothing more to do, and gives its processor time
// then.
func (s *subject) rest(ctx context.Context) (float64, error) {
	before, err := s.processorTime(ctx)
	for until := time.Now().Add(restWithin); err == nil && time.Now().Before(until); {
		began := time.Now()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		var after float64
		if after, err = s.processorTime(ctx); err == nil && after-before < restShare*time.Since(began).Seconds() {
			return after, nil
		}
		before = after
	}
	if err == nil {
		err = fmt.Errorf("still at work %v after its last claim", restWithin)
	}
	return 0, err
}

// processorTime is what the server says it has taken, in seconds.
func (s *subject) processorTime(ctx context.Context) (float64, error) {
	seen, err := s.metrics(ctx)
	return seen["process_cpu_seconds_total"], err
}

// metrics reads those of the server that have no labels.
func (s *subject) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	seen := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			seen[name] = n
		}
	}
	return seen, lines.Err()
}
