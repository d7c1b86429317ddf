package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"manna/console"
	"manna/console/client"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/node"
	"manna/internal/promises"
	"manna/reconcile"
)

// Options say how to run the demo.
type Options struct {
	Claims  int    // requests, repeats included
	Seed    uint64 // the same seed makes the same users ask for the same gifts
	NoCrash bool   // leave the SIGKILL out
	Keep    string // directory to keep everything in; empty: one that is removed
	// Progress is where the demo tells how it goes; a terminal gets a live view.
	Progress *os.File
	Quiet    bool // tell nothing before the end
}

// Result is how it went.
type Result struct {
	promises.Verdict
	Duplicates int64  `json:"duplicates"` // requests that were answered duplicate
	Requests   int64  `json:"requests"`   // sent by the crowd, repeats of unanswered ones included
	Kills      int    `json:"kills"`      // SIGKILLs of the server that were survived
	Seed       uint64 `json:"seed"`
	// AcceptS and DeliverS are how long accepting and delivering took.
	AcceptS   float64           `json:"accept_s"`
	ElapsedS  float64           `json:"elapsed_s"`
	Reconcile *reconcile.Report `json:"reconcile"`
	KeptIn    string            `json:"kept_in,omitempty"`
}

// run is one demo under way.
type run struct {
	Options
	plan     *plan
	dir      string
	config   string
	partners []*process
	urls     map[string]string
	admin    string
	public   string
	crowd    *crowd
	view     *view
	began    time.Time

	kills int

	mu     sync.Mutex
	server *process
	desk   *client.Client // of the server's admin port
}

const (
	settleTime = 4 * time.Minute // what is not final by then counts as unsettled
	pollEvery  = 250 * time.Millisecond
	stopTime   = 20 * time.Second
	answerTime = 2 * time.Minute // bounds a request to the admin port
)

// Interrupted is the error of a demo whose context ended: how far it had come.
type Interrupted struct {
	Requests   int64   `json:"requests"` // sent, of
	Of         int     `json:"of"`
	Claims     int64   `json:"claims"`     // accepted
	Duplicates int64   `json:"duplicates"` // requests that were answered duplicate
	Kills      int     `json:"kills"`
	Seed       uint64  `json:"seed"`
	ElapsedS   float64 `json:"elapsed_s"`
	KeptIn     string  `json:"kept_in,omitempty"`
}

func (i *Interrupted) Error() string {
	text := fmt.Sprintf("after %.0f s: %d of %d requests sent, %d claims accepted, nothing checked; a demo does not go on: `manna demo --claims %d --seed %d` makes the same claims again",
		i.ElapsedS, i.Requests, i.Of, i.Claims, i.Of, i.Seed)
	if i.KeptIn != "" {
		text += fmt.Sprintf("; what it left is in %s, so --keep has to name another directory then", i.KeptIn)
	}
	return text
}

// Run runs the demo. An error means that it could not be run to its end, an
// *Interrupted one that ctx ended first; a broken promise is told in the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, plan: newPlan(o.Claims, o.Seed), urls: make(map[string]string), began: time.Now()}
	var err error
	if o.Keep == "" {
		if r.dir, err = os.MkdirTemp("", "manna-demo-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(r.dir)
	} else {
		// Absolute: the configuration in it names paths below it.
		if r.dir, err = filepath.Abs(o.Keep); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(r.dir, 0o700); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "data")); err == nil {
		return nil, fmt.Errorf("%s holds the data of an earlier demo: name another directory", r.dir)
	}
	defer r.end()
	result, err := r.run(ctx)
	if err != nil && ctx.Err() != nil {
		r.view.note("interrupted; the processes are stopped in order")
		return nil, r.interrupted()
	}
	if err != nil && o.Keep == "" {
		err = fmt.Errorf("%w (run with --keep DIR to look at the logs of its processes)", err)
	}
	return result, err
}

func (r *run) run(ctx context.Context) (*Result, error) {
	r.view = newView(r.Options, r.plan)
	if err := r.startPartners(ctx); err != nil {
		return nil, err
	}
	if err := r.configure(); err != nil {
		return nil, err
	}
	if err := r.startServer(ctx); err != nil {
		return nil, err
	}
	// What goes on beside the claims ends with this call, whatever its outcome.
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan struct{})
	beside.Go(func() {
		defer close(watched)
		r.watch(watching)
	})

	r.crowd = newCrowd(r.plan, "http://"+r.public)
	r.view.begin(r.crowd)
	crash := make(chan error, 1)
	err := r.crowd.run(ctx, func() {
		if r.NoCrash {
			crash <- nil
			return
		}
		beside.Go(func() { crash <- r.crash(ctx) })
	})
	if err != nil {
		return nil, err
	}
	accepted := time.Since(r.began)
	if err := <-crash; err != nil {
		return nil, err
	}
	r.view.note("all claims are answered; the partners go on at their own pace")
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	stopWatching()
	<-watched
	var report reconcile.Report
	if err := r.call(ctx, http.MethodPost, "/v1/admin/reconcile", console.ReconcileRequest{Who: "demo"}, &report); err != nil {
		return nil, err
	}
	if err := r.current().stop(stopTime); err != nil {
		return nil, err
	}
	verdict, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	return r.result(verdict, report, accepted), nil
}

func (r *run) result(verdict *promises.Verdict, report reconcile.Report, accepted time.Duration) *Result {
	if r.Keep == "" {
		report.Files = "" // they are removed
	}
	return &Result{
		Verdict: *verdict, Duplicates: r.crowd.duplicates.Load(), Requests: r.crowd.sent.Load() + r.crowd.repeated.Load(), Kills: r.kills, Seed: r.Seed,
		AcceptS: accepted.Seconds(), ElapsedS: time.Since(r.began).Seconds(), Reconcile: &report, KeptIn: r.Keep,
	}
}

func (r *run) interrupted() *Interrupted {
	i := &Interrupted{Of: r.Claims, Kills: r.kills, Seed: r.Seed, ElapsedS: time.Since(r.began).Seconds(), KeptIn: r.Keep}
	if c := r.crowd; c != nil {
		i.Requests, i.Claims, i.Duplicates = c.sent.Load(), c.accepted.Load(), c.duplicates.Load()
	}
	return i
}

// startPartners starts every partner as a process on a port of its own.
func (r *run) startPartners(ctx context.Context) error {
	for _, p := range r.plan.partners {
		script, err := json.MarshalIndent(p.script, "", "  ")
		if err != nil {
			return err
		}
		path := filepath.Join(r.dir, p.name+".json")
		if err := os.WriteFile(path, script, 0o600); err != nil {
			return err
		}
		var said struct{ Listening string }
		child, err := start(ctx, r.dir, "partner-"+p.name, &said, "partner-sim", "--json", "--listen", "127.0.0.1:0", "--name", p.name, "--script", path)
		if err != nil {
			return err
		}
		r.partners = append(r.partners, child)
		r.urls[p.name] = said.Listening
		r.view.note(fmt.Sprintf("partner %s bears %v and %s", p.name, p.rate, p.says))
	}
	return nil
}

// configure writes the server's configuration on two free ports.
func (r *run) configure() error {
	var err error
	if r.public, err = freePort(); err != nil {
		return err
	}
	if r.admin, err = freePort(); err != nil {
		return err
	}
	r.config = filepath.Join(r.dir, "manna.yaml")
	return os.WriteFile(r.config, []byte(r.plan.configuration(filepath.Join(r.dir, "data"), r.public, r.admin, r.urls)), 0o600)
}

// freePort finds a port. The server must listen on the same one after its crash,
// so it cannot choose for itself.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (r *run) startServer(ctx context.Context) error {
	var said map[string]string
	child, err := start(ctx, r.dir, "server", &said, "serve", "--dev", "--json", "--config", r.config)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = child
	token, err := node.ReadSecret(filepath.Join(r.dir, "data", node.TokenFile))
	r.desk = client.New(r.admin, token)
	return err
}

// call asks the server's admin port.
func (r *run) call(ctx context.Context, method, path string, in, out any) error {
	r.mu.Lock()
	desk := r.desk
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return desk.Call(ctx, method, path, in, out)
}

// crash kills the server in the middle of its work and starts it again.
func (r *run) crash(ctx context.Context) error {
	r.view.note("SIGKILL to the server, in the middle of claims")
	r.current().kill()
	began := time.Now()
	if err := r.startServer(ctx); err != nil {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	r.kills++
	r.view.note(fmt.Sprintf("the server is back %d ms later", time.Since(began).Milliseconds()))
	return nil
}

// current is the server that runs now.
func (r *run) current() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// watch shows how the server stands.
func (r *run) watch(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			var s console.Status
			err := r.call(ctx, http.MethodGet, "/v1/admin/status", nil, &s)
			r.view.show(&s, err)
		}
	}
}

// settle waits until no order is on its way, or too long.
func (r *run) settle(ctx context.Context) error {
	deadline := time.Now().Add(settleTime)
	for {
		var s console.Status
		if err := r.call(ctx, http.MethodGet, "/v1/admin/status", nil, &s); err != nil {
			return err
		}
		left := int64(0)
		for _, l := range s.Lanes {
			left += l.Queue.Backlog + l.Queue.Deferred + l.Queue.Held
		}
		if left == 0 && len(s.Lanes) == len(r.plan.partners) {
			return nil
		}
		if time.Now().After(deadline) {
			r.view.note(fmt.Sprintf("%d orders are still on their way after %v", left, settleTime))
			return nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check holds the promises against the partners' books, the log and what the
// crowd was told.
func (r *run) check(ctx context.Context) (*promises.Verdict, error) {
	evidence := promises.Evidence{
		Logs:     []iter.Seq2[*fallbacklog.Record, error]{fallbacklog.Records(disk.OS{}, filepath.Join(r.dir, "data", "log"))},
		Rates:    make(map[string]gift.Rate),
		Accepted: r.crowd.claims,
	}
	for _, p := range r.plan.partners {
		books, err := partnertest.Fetch(ctx, r.urls[p.name])
		if err != nil {
			return nil, fmt.Errorf("books of %s: %w", p.name, err)
		}
		evidence.Books = append(evidence.Books, books)
		evidence.Rates[p.name] = p.rate
	}
	c, err := config.Load(r.config)
	if err != nil {
		return nil, err
	}
	evidence.Campaigns = c.Campaigns
	return promises.Check(evidence), nil
}

// end ends every child that still lives.
func (r *run) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.server != nil {
		errs = append(errs, r.server.stop(stopTime))
	}
	for _, p := range r.partners {
		errs = append(errs, p.stop(stopTime))
	}
	if err := errors.Join(errs...); err != nil && r.view != nil {
		r.view.note(err.Error())
	}
}
