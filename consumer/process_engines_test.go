//go:build engines

package consumer_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"manna/breaker"
	"manna/consumer"
	"manna/consumer/quota"
	"manna/consumer/quota/memcached"
	"manna/delivery"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache"
	"manna/queue/embedded"
)

// asLane has the test's program serve a lane instead of running tests: its value is a
// laneJob.
const asLane = "MANNA_TEST_LANE"

func TestMain(m *testing.M) {
	if job := os.Getenv(asLane); job != "" {
		if err := serveLane([]byte(job), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// laneJob is what a process with a lane is to do.
type laneJob struct {
	Name, Dir, Partner, Memcached string
	Rate                          gift.Rate
	Ahead                         time.Duration // of the process's clock
}

// tellEach is how often a process with a lane says how it stands.
const tellEach = 50 * time.Millisecond

// starts is the file in which a process with a lane notes when its calls begin: Unix
// nanoseconds by the machine's clock, eight bytes each.
func (j *laneJob) starts() string { return filepath.Join(j.Dir, "starts") }

// noting is an adapter that notes when its calls begin, where a kill does not reach it.
type noting struct {
	delivery.Adapter
	mu     sync.Mutex
	starts *os.File
	failed error // the first that a note could not be made with
}

// Grant implements delivery.Adapter.
func (n *noting) Grant(ctx context.Context, c *gift.Claim, o gift.Order) gift.Outcome {
	n.note()
	return n.Adapter.Grant(ctx, c, o)
}

// note writes under the mutex, so that the times are in order.
func (n *noting) note() {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := binary.LittleEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	_, err := n.starts.Write(at)
	n.failed = cmp.Or(n.failed, err)
}

func (n *noting) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(n.failed, n.starts.Close())
}

// serveLane has a backlog that does not end delivered at a share of the partner's rate,
// and says on out how it stands, until in ends.
func serveLane(job []byte, in io.Reader, out io.Writer) (err error) {
	var j laneJob
	if err := json.Unmarshal(job, &j); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(j.Dir, "log"), Node: j.Name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	backlog := claims{log: log, name: j.Name}
	if err := backlog.add(ctx, 10*int(j.Rate)); err != nil {
		return err
	}
	q, err := embedded.Open(ctx, embedded.Options{Log: log, Dir: filepath.Join(j.Dir, "lanes")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close(context.Background())) }()
	const timeout = 10 * time.Second
	partner, err := delivery.NewHTTP(delivery.HTTPOptions{Name: "p", URL: j.Partner + "/grant", Idempotent: true, Timeout: timeout, MaxInFlight: 50})
	if err != nil {
		return err
	}
	starts, err := os.Create(j.starts())
	if err != nil {
		return err
	}
	a := &noting{Adapter: partner, starts: starts}
	defer func() { err = errors.Join(err, a.close()) }()
	b, err := breaker.New("partner/p", breaker.Settings{Window: time.Minute, FailureRatio: 0.9, MinCalls: 20, OpenFor: time.Second, Timeout: timeout})
	if err != nil {
		return err
	}
	client, err := memcache.New(memcache.Options{Name: "quota", Servers: []string{j.Memcached}, Timeout: 100 * time.Millisecond, OpenFor: quota.Ask})
	if err != nil {
		return err
	}
	defer client.Close()
	c, err := consumer.New(consumer.Options{
		Log: log, Queue: q, Now: func() time.Time { return time.Now().Add(j.Ahead) },
		Partners: []*consumer.Partner{{Name: "p", Adapter: a, Rate: j.Rate, MaxInFlight: 50, Retry: []time.Duration{time.Second}, Breaker: b}},
		Quota:    &consumer.Quota{Centre: memcached.New(client, ""), Standby: 0.7, Instances: func() int { return 3 }},
	})
	if err != nil {
		return err
	}
	go func() {
		defer cancel()
		io.Copy(io.Discard, in)
	}()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	tick := time.NewTicker(tellEach)
	defer tick.Stop()
	for say := json.NewEncoder(out); ; {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
		for _, l := range c.Lanes(ctx) {
			err := say.Encode(l.Quota)
			if err == nil && l.Quota != nil && backlog.made < int(l.Quota.Used)+5*int(j.Rate) {
				err = backlog.add(ctx, 5*int(j.Rate))
			}
			if ctx.Err() != nil {
				return <-ended // nobody listens any more
			}
			if err != nil {
				cancel()
				return errors.Join(err, <-ended)
			}
		}
	}
}

// claims are put into a log, each of one order at partner p.
type claims struct {
	log  *fallbacklog.Log
	name string // of their users, before a number
	made int
}

// add puts n more in.
func (c *claims) add(ctx context.Context, n int) error {
	campaign := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: time.Hour}
	g := &gift.Gift{Name: "g", Items: []gift.Item{{Name: "i", Partner: "p", Quantity: 1}}}
	recs := make([]*fallbacklog.Record, n)
	for i := range recs {
		user := fmt.Sprint(c.name, c.made+i)
		recs[i] = &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: campaign.NewClaim(campaign.ID.ClaimID("", user, ""), "", "", user, g, "", nil, time.Now().UTC())}
	}
	c.made += n
	return c.log.Append(ctx, recs...)
}

// laneProcess is a process with a lane.
type laneProcess struct {
	t      *testing.T
	job    laneJob
	cmd    *exec.Cmd
	in     io.Closer
	silent chan struct{} // closed when it says nothing any more
	dead   bool

	mu   sync.Mutex // guards the next field
	said consumer.QuotaStatus
}

// startLane starts a process, which ends with the test at the latest.
func startLane(t *testing.T, j laneJob) *laneProcess {
	t.Helper()
	job, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	p := &laneProcess{t: t, job: j, cmd: exec.Command(os.Args[0]), silent: make(chan struct{}), said: consumer.QuotaStatus{Mode: "not open"}}
	p.cmd.Env = append(os.Environ(), asLane+"="+string(job))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.silent)
		for read := json.NewDecoder(out); ; {
			var s consumer.QuotaStatus
			if read.Decode(&s) != nil {
				return
			}
			p.mu.Lock()
			p.said = s
			p.mu.Unlock()
		}
	}()
	t.Cleanup(p.end)
	return p
}

// end has the process end what it is at.
func (p *laneProcess) end() {
	if p.dead {
		return
	}
	p.dead = true
	p.in.Close()
	<-p.silent
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("node %s: %v", p.job.Name, err)
	}
}

// kill ends it with SIGKILL.
func (p *laneProcess) kill() {
	p.dead = true
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.silent
	p.cmd.Wait() // its error is that it was killed
}

func (p *laneProcess) quota() consumer.QuotaStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// starts are when its calls began, those of a killed process included.
func (p *laneProcess) starts() (at []int64) {
	p.t.Helper()
	noted, err := os.ReadFile(p.job.starts())
	if err != nil {
		p.t.Fatal(err)
	}
	for ; len(noted) >= 8; noted = noted[8:] {
		at = append(at, int64(binary.LittleEndian.Uint64(noted)))
	}
	return at
}

// until waits until the lane is in a mode and makes starts in it.
func (p *laneProcess) until(mode string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for first := uint64(0); ; time.Sleep(tellEach) {
		s := p.quota()
		if s.Mode != mode {
			first = 0
		} else if first == 0 {
			first = s.Used + 20
		} else if s.Used >= first {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the lane of node %s is %+v, want it to start calls %s", p.job.Name, s, mode)
		}
	}
}
