package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"manna/console"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/promises"
	"manna/reconcile"
)

// Options say how to run the demo.
type Options struct {
	Claims  int    // requests, repeats included
	Seed    uint64 // the same seed makes the same users ask for the same gifts
	NoCrash bool   // leave the SIGKILLs out
	// Engines is a file with the sections queue, guard, ledger and archive: then it is
	// two fronts, three nodes for the lanes and one that reconciles, on these servers.
	// Empty: one node that needs none.
	Engines string
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
	firstLog  string            // name of a node, and of its directory
}

// run is one demo under way.
type run struct {
	Options
	plan     *plan
	dir      string
	engines  *engines // nil where the demo needs none
	servers  []*server
	fronts   []*server // that take claims
	lanes    []*server // that deliver
	books    *server   // that reconciles
	partners []*process
	urls     map[string]string
	crowd    *crowd
	view     *view
	began    time.Time

	kills atomic.Int64
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
	if len(leftovers(r.dir)) > 0 {
		return nil, fmt.Errorf("%s holds the data of an earlier demo: name another directory", r.dir)
	}
	if o.Engines != "" {
		if r.engines, err = readEngines(o.Engines); err != nil {
			return nil, err
		}
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
	if err := r.startServers(ctx); err != nil {
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

	var urls []string
	for _, f := range r.fronts {
		urls = append(urls, "http://"+f.public)
	}
	r.crowd = newCrowd(r.plan, urls)
	r.view.begin(r.crowd)
	faults := r.faults()
	failed := make(chan error, len(faults))
	err := r.crowd.run(ctx, func(sent int) {
		for len(faults) > 0 && sent >= faults[0].at {
			do := faults[0].do
			faults = faults[1:]
			beside.Go(func() { failed <- do(ctx) })
		}
	})
	if err != nil {
		return nil, err
	}
	accepted := time.Since(r.began)
	for range cap(failed) - len(faults) {
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	r.view.note("all claims are answered; the partners go on at their own pace")
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	stopWatching()
	<-watched
	report, err := r.reconcile(ctx)
	if err != nil {
		return nil, err
	}
	verdict, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	return r.result(verdict, *report, accepted), nil
}

func (r *run) result(verdict *promises.Verdict, report reconcile.Report, accepted time.Duration) *Result {
	if r.Keep == "" {
		report.Files = "" // they are removed
	}
	return &Result{
		Verdict: *verdict, Duplicates: r.crowd.duplicates.Load(), Requests: r.crowd.sent.Load() + r.crowd.repeated.Load(), Kills: int(r.kills.Load()), Seed: r.Seed,
		AcceptS: accepted.Seconds(), ElapsedS: time.Since(r.began).Seconds(), Reconcile: &report, KeptIn: r.Keep, firstLog: r.books.name,
	}
}

func (r *run) interrupted() *Interrupted {
	i := &Interrupted{Of: r.Claims, Kills: int(r.kills.Load()), Seed: r.Seed, ElapsedS: time.Since(r.began).Seconds(), KeptIn: r.Keep}
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

// startServers starts every node, with a configuration on free ports.
func (r *run) startServers(ctx context.Context) error {
	roles := []struct{ name, roles string }{{"data", "front,lanes,reconcile"}}
	if r.engines != nil {
		roles = []struct{ name, roles string }{
			{"front-1", "front"}, {"front-2", "front"}, {"lanes-1", "lanes"}, {"lanes-2", "lanes"}, {"lanes-3", "lanes"}, {"books", "reconcile"},
		}
	}
	for _, role := range roles {
		s, err := newServer(r.dir, role.name, role.roles)
		if err != nil {
			return err
		}
		r.servers = append(r.servers, s)
		if strings.Contains(role.roles, "front") {
			r.fronts = append(r.fronts, s)
		}
		if strings.Contains(role.roles, "lanes") {
			r.lanes = append(r.lanes, s)
		}
		if strings.Contains(role.roles, "reconcile") {
			r.books = s
		}
		if err := os.WriteFile(s.config, []byte(r.plan.configuration(s, r.engines, r.urls)), 0o600); err != nil {
			return err
		}
	}
	for _, s := range r.servers {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	if r.engines != nil {
		r.view.note(fmt.Sprintf("%d nodes on the servers of %s; what they leave there is called %s", len(r.servers), r.Engines, r.engines.name))
	}
	return nil
}

// fault is something that goes wrong while claims come.
type fault struct {
	at int // requests that have been sent by then
	do func(context.Context) error
}

// faults are those of this demo, by when they come.
func (r *run) faults() []fault {
	if r.NoCrash {
		return nil
	}
	half := fault{r.Claims / 2, func(ctx context.Context) error { return r.crash(ctx, r.fronts[0]) }}
	if r.engines == nil {
		return []fault{half}
	}
	faults := []fault{half, {r.Claims * 3 / 4, func(ctx context.Context) error { return r.crash(ctx, r.lanes[0]) }}}
	if r.engines.dir == "" {
		r.view.note(fmt.Sprintf("there are no commands kill and start beside %s: the broker lives on", r.Engines))
		return faults
	}
	return append([]fault{{r.Claims / 4, r.killBroker}}, faults...)
}

// crash kills a node in the middle of its work and starts it again.
func (r *run) crash(ctx context.Context, s *server) error {
	r.view.note(fmt.Sprintf("SIGKILL to the server %s, in the middle of claims", s.name))
	began := time.Now()
	if err := s.crash(ctx); err != nil {
		return err
	}
	r.kills.Add(1)
	r.view.note(fmt.Sprintf("the server %s is back %d ms later", s.name, time.Since(began).Milliseconds()))
	return nil
}

// killBroker kills the queue's broker and starts it again.
func (r *run) killBroker(ctx context.Context) error {
	r.view.note("SIGKILL to the broker, in the middle of claims; they go on into the fronts' logs")
	began := time.Now()
	if err := r.engines.command(ctx, "kill", "broker"); err != nil {
		return err
	}
	if err := r.engines.command(ctx, "start", "broker"); err != nil {
		return err
	}
	r.kills.Add(1)
	r.view.note(fmt.Sprintf("the broker is back %.1f s later", time.Since(began).Seconds()))
	return nil
}

// watch shows how the servers stand.
func (r *run) watch(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s, err := status(ctx, r.lanes)
			r.view.show(s, err)
		}
	}
}

// settle waits until every order has ended, or too long.
func (r *run) settle(ctx context.Context) error {
	deadline := time.Now().Add(settleTime)
	for {
		left, err := r.left(ctx)
		if err != nil || left == 0 {
			return err
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

// left counts the orders that are on their way. What a broker tells is an estimate;
// where there is one, the logs are read once it tells that nothing is left.
func (r *run) left(ctx context.Context) (left int64, err error) {
	s, err := status(ctx, r.lanes)
	if err != nil {
		return 0, err
	}
	if len(s.Lanes) < len(r.plan.partners) {
		return 1, nil
	}
	for _, l := range s.Lanes {
		left += l.Queue.Backlog + l.Queue.Deferred + l.Queue.Held
	}
	if r.engines == nil || left > looksDone {
		return left, nil
	}
	return int64(promises.Check(promises.Evidence{Logs: r.logs()}).Unsettled), nil
}

// looksDone is how many orders a broker may tell of although there are none left.
const looksDone = 2000

// reconcile has the books compared. Where they are in several logs, the other nodes
// have stopped by then, so that their logs have all arrived.
func (r *run) reconcile(ctx context.Context) (*reconcile.Report, error) {
	for _, s := range r.servers {
		if s != r.books {
			if err := s.stop(); err != nil {
				return nil, err
			}
		}
	}
	var report reconcile.Report
	if err := r.books.call(ctx, http.MethodPost, "/v1/admin/reconcile", console.ReconcileRequest{Who: "demo"}, &report); err != nil {
		return nil, err
	}
	return &report, r.books.stop()
}

// logs are those of all nodes.
func (r *run) logs() (logs []iter.Seq2[*fallbacklog.Record, error]) {
	for _, s := range r.servers {
		logs = append(logs, fallbacklog.Records(disk.OS{}, s.logDir()))
	}
	return logs
}

// check holds the promises against the partners' books, the log and what the
// crowd was told.
func (r *run) check(ctx context.Context) (*promises.Verdict, error) {
	evidence := promises.Evidence{
		Logs:     r.logs(),
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
	c, err := config.Load(r.fronts[0].config)
	if err != nil {
		return nil, err
	}
	evidence.Campaigns = c.Campaigns
	return promises.Check(evidence), nil
}

// end ends every child that still lives.
func (r *run) end() {
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.stop())
	}
	for _, p := range r.partners {
		errs = append(errs, p.stop(stopTime))
	}
	if err := errors.Join(errs...); err != nil && r.view != nil {
		r.view.note(err.Error())
	}
}

// leftovers are the logs that an earlier demo has left in a directory.
func leftovers(dir string) []string {
	logs, _ := filepath.Glob(filepath.Join(dir, "*", "log"))
	return logs
}
