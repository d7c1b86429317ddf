package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"manna/fallbacklog"
	"manna/internal/disk"
)

const warmUp = 2 * time.Second

// configuration is what the server is measured with: its defaults, a campaign
// that is open, and a partner that is not there, so that lanes do next to
// nothing. Ports are free ones.
const configuration = `data: %s
node: bench
listen: {public: "127.0.0.1:0", admin: "127.0.0.1:0"}
partners:
  nobody:
    url: http://%s/grant
    idempotent: true
    rate: 1/s
campaigns:
  bench:
    opens: %s
    closes: %s
    scenes: [rain]
    promise: 48h
    gifts:
      pack:
        items:
          - {item: vip-30, partner: nobody, sku: V30}
`

// claimHTTP loads the real server and the bare handler in turns and compares the
// medians of their rounds.
func claimHTTP(ctx context.Context, o *options) (*result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	binary := filepath.Join(o.temp, "manna")
	if err := buildManna(ctx, binary); err != nil {
		return nil, err
	}
	manna, err := startManna(ctx, o, binary, "manna", "")
	if err != nil {
		return nil, err
	}
	defer manna.close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bare, err := startSubject(ctx, o, "bare net/http handler", os.Stderr, self, bareChild)
	if err != nil {
		return nil, err
	}
	defer bare.close()
	if err := sameAnswers(manna, bare); err != nil {
		return nil, err
	}
	subjects := []*subject{manna, bare}
	for _, s := range subjects {
		if err := s.process.pause(); err != nil {
			return nil, err
		}
	}
	for round := range o.rounds + 1 {
		for _, s := range subjects {
			length := o.round
			if round == 0 {
				length = warmUp
			}
			if err := s.round(ctx, length, round > 0); err != nil {
				return nil, err
			}
			if round > 0 {
				fmt.Fprintf(o.out, "round %d  %-22s %8.0f claims/s\n", round, s.process.name, s.rates[round-1])
			}
		}
	}
	for _, s := range subjects {
		if err := s.process.stop(); err != nil {
			return nil, err
		}
	}
	logged, _, err := manna.logged()
	if err != nil {
		return nil, err
	}
	ours, theirs := median(manna.rates), median(bare.rates)
	r := &result{Value: ours, Unit: "claims/s", Against: []peer{{bare.process.name, theirs, ours / theirs}}}
	for i, s := range subjects {
		name := []string{"manna", "bare"}[i]
		slices.Sort(s.times)
		r.add(name+" p50", percentile(s.times, 0.5), "ms")
		r.add(name+" p99", percentile(s.times, 0.99), "ms")
		r.add(name+" lowest round", slices.Min(s.rates), "claims/s")
		r.add(name+" highest round", slices.Max(s.rates), "claims/s")
		cpu, peak := s.process.used()
		r.add(name+" processor time per claim", float64(cpu.Microseconds())/float64(s.load.answered()), "µs")
		r.add(name+" peak memory", float64(peak)/(1<<20), "MiB")
	}
	r.add("claims answered 202", float64(manna.load.answered()), "")
	r.add("claims in the log", float64(logged), "")
	return r, nil
}

// subject is a server with its load.
type subject struct {
	process *process
	data    string // its data directory
	admin   string // address of its admin port
	load    *load
	rates   []float64 // of each round, claims a second
	times   []time.Duration
}

func startSubject(ctx context.Context, o *options, name string, words *os.File, path string, args ...string) (*subject, error) {
	var said struct{ Public, Admin, Data string }
	p, err := start(ctx, name, &said, words, path, args...)
	if err != nil {
		return nil, err
	}
	l, err := dial(ctx, said.Public, o.connections)
	if err != nil {
		p.kill()
		return nil, err
	}
	return &subject{process: p, data: said.Data, admin: said.Admin, load: l}, nil
}

// startManna starts the server on an empty data directory, with more in its
// configuration and with more arguments.
func startManna(ctx context.Context, o *options, binary, name, more string, args ...string) (*subject, error) {
	closed, err := closedPort()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(o.temp, strings.ReplaceAll(name, " ", "-"))
	opens := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	text := fmt.Sprintf(configuration, path+".data", closed, opens.Format(time.RFC3339), opens.AddDate(0, 0, 1).Format(time.RFC3339)) + o.with + "\n" + more
	if err := os.WriteFile(path+".yaml", []byte(text), 0o600); err != nil {
		return nil, err
	}
	words, err := os.Create(path + ".err")
	if err != nil {
		return nil, err
	}
	defer words.Close()
	args = append([]string{"serve", "--dev", "--json", "--log", "warn", "--config", path + ".yaml"}, args...)
	s, err := startSubject(ctx, o, name, words, binary, args...)
	if err != nil {
		said, _ := os.ReadFile(words.Name())
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return s, nil
}

// logged counts the claims in the log of a server that has ended, and those of them
// that its feeder has brought to the queue. As many as were answered have to be there.
func (s *subject) logged() (claims, fed int, err error) {
	var at []fallbacklog.Position
	var through fallbacklog.Position
	for rec, err := range fallbacklog.Records(disk.OS{}, filepath.Join(s.data, "log")) {
		if err != nil {
			return 0, 0, err
		}
		switch rec.Kind {
		case fallbacklog.Claimed:
			at = append(at, rec.At)
		case fallbacklog.Sent:
			through = max(through, rec.Sent.Through)
		}
	}
	for fed < len(at) && at[fed] < through {
		fed++
	}
	if answered := s.load.answered(); len(at) != answered {
		return 0, 0, fmt.Errorf("%s answered 202 to %d claims, and its log holds %d", s.process.name, answered, len(at))
	}
	return len(at), fed, nil
}

func (s *subject) close() {
	s.load.close()
	s.process.cmd.Process.Kill()
}

// round loads the subject while the other stands still.
func (s *subject) round(ctx context.Context, d time.Duration, counts bool) error {
	if err := s.process.resume(); err != nil {
		return err
	}
	n, times, err := s.load.run(ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", s.process.name, err)
	}
	if counts {
		s.rates = append(s.rates, float64(n)/d.Seconds())
		s.times = append(s.times, times...)
	}
	return s.process.pause()
}

// sameAnswers makes sure that both answer with JSON of one shape and about one
// length: else the comparison means nothing.
func sameAnswers(ours, theirs *subject) error {
	var lengths [2]int
	for i, s := range []*subject{ours, theirs} {
		body, err := s.load.sample()
		if err != nil {
			return fmt.Errorf("%s: %w", s.process.name, err)
		}
		var a bareAnswer
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil || len(a.Orders) != 1 || a.Receipt == "" {
			return fmt.Errorf("%s answers %q: %w", s.process.name, body, err)
		}
		lengths[i] = len(body)
	}
	if d := lengths[0] - lengths[1]; d < -16 || d > 16 {
		return fmt.Errorf("answers have %d and %d bytes: the two no longer do the same", lengths[0], lengths[1])
	}
	return nil
}

// closedPort gives an address at which nobody listens.
func closedPort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// buildManna builds the binary of the tree that this program belongs to.
func buildManna(ctx context.Context, binary string, env ...string) error {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "manna").Output()
	if err != nil {
		return fmt.Errorf("find the tree of manna (run this with go -C bench run .): %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/manna")
	cmd.Dir = strings.TrimSpace(string(dir))
	cmd.Env = append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(said)))
	}
	return nil
}
