//go:build engines

package main

import (
	"crypto/rand"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/breaker"
	"manna/console"
	"manna/console/client"
	"manna/delivery/partnertest"
	"manna/internal/node"
	"manna/internal/promises"
	"manna/ops/local/engines"
	"manna/reconcile"
)

var clusterKills = flag.Int("cluster-kill-rounds", 11, "how many kills TestClusterKilledUnderLoad makes; each process and each server has had one after 11")

// settlePatience is how long orders may take after the last kill: a broker that was
// killed takes its time.
const settlePatience = 4 * time.Minute

// cluster is two fronts, three nodes for the lanes and one that reconciles, on real
// servers.
type cluster struct {
	*night
	t       *testing.T
	engines *engines.Engines
	fronts  []*server
	lanes   []*server
	books   *server
	all     map[string]*server
}

func newCluster(t *testing.T, partners map[string]partnertest.Script, settings string) *cluster {
	t.Helper()
	e := engines.Up(t, engines.NameServer, engines.Broker, engines.Memcached, engines.Postgres, engines.S3)
	name := "t" + strings.ToLower(rand.Text()[:10])
	address, query, _ := strings.Cut(e.BucketURL(), "?")
	text := fmt.Sprintf(`queue: {engine: rocketmq, nameservers: [%q], group: %s, queues: 6}
guard: {engine: memcached, servers: [%q], prefix: "%s:"}
ledger: {engine: postgres, dsn: %q, schema: %s}
archive: {url: %q, access_key: %s, secret_key: %s}
`, e.Addr(engines.NameServer), name, e.Addr(engines.Memcached), name, e.DSN(), name, address+"/"+name+"?"+query, engines.AccessKey, engines.SecretKey) + settings
	c := &cluster{night: newNight(t, partners, ""), t: t, engines: e, all: make(map[string]*server)}
	add := func(node, role string) *server {
		c.all[node] = c.server(t, node, role, text)
		return c.all[node]
	}
	c.fronts = []*server{add("front-1", "front"), add("front-2", "front")}
	c.lanes = []*server{add("lanes-1", "lanes"), add("lanes-2", "lanes"), add("lanes-3", "lanes")}
	c.books = add("books", "reconcile")
	return c
}

func (c *cluster) servers() (all []*server) {
	return append(append(append(all, c.fronts...), c.lanes...), c.books)
}

// crowd claims at the fronts in turn until stop is called.
func (c *cluster) crowd(workers int, pause time.Duration) (stop func()) {
	ended := make(chan struct{})
	var crowd sync.WaitGroup
	for worker := range workers {
		crowd.Go(func() {
			defer http.DefaultClient.CloseIdleConnections()
			for i := 0; ; i++ {
				user := fmt.Sprintf("u%d-%d", worker, i)
				for turn := i; c.fronts[turn%len(c.fronts)].claim(user) != nil; turn++ {
					select {
					case <-ended:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
				if i%5 == 4 {
					c.fronts[mathrand.IntN(len(c.fronts))].claim(fmt.Sprintf("u%d-%d", worker, mathrand.IntN(i)))
				}
				select {
				case <-ended:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	return func() {
		close(ended)
		crowd.Wait()
	}
}

// more waits until so many more claims have been accepted.
func (c *cluster) more(n int) {
	c.t.Helper()
	want := c.count() + n
	for began := time.Now(); c.count() < want; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			c.t.Fatalf("%d claims accepted, want %d", c.count(), want)
		}
	}
}

// settle waits until every order of every log has ended.
func (c *cluster) settle() {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Second) {
		e := c.evidence(c.servers()...)
		e.Books, e.Accepted = nil, nil
		v := promises.Check(e)
		if v.Unsettled == 0 {
			return
		}
		if time.Since(began) > settlePatience {
			c.t.Fatalf("%d of %d orders have not ended", v.Unsettled, v.Orders)
		}
	}
}

// finish stops the nodes that claim and deliver, has the books compared and checks
// the promises.
func (c *cluster) finish() *promises.Verdict {
	c.t.Helper()
	c.settle()
	for _, s := range append(c.fronts, c.lanes...) {
		s.terminate()
	}
	var report reconcile.Report
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		c.ask(c.books, http.MethodPost, "/v1/admin/reconcile", console.ReconcileRequest{Who: "test"}, &report)
		if report.Complete || time.Now().After(deadline) {
			break
		}
		// A name server that was killed knows each topic once its broker has told it.
		c.t.Logf("the report is not complete yet: %s", report.Incomplete)
		report = reconcile.Report{}
	}
	c.books.terminate()
	v := c.judge(c.t, c.servers()...)
	if !report.Complete || report.Expected != int64(v.Orders) || report.Actual != int64(v.Granted) || report.Classes.Missing+report.Classes.Unexpected+report.Classes.Duplicate > 0 {
		c.t.Errorf("the report does not say what the logs do: %+v", report)
	}
	return v
}

// Each process and each server is killed with SIGKILL in turn while claims go on and
// partners lie. At the end every promise is checked from the partners' books.
func TestClusterKilledUnderLoad(t *testing.T) {
	const ms = partnertest.Millisecond
	c := newCluster(t, map[string]partnertest.Script{
		"dedupes": {Rate: 300, Dedupe: true, ApplyThen500: 0.02, FaultCalls: 2, Latency: partnertest.Span{Min: 1 * ms, Max: 10 * ms}},
		"asked":   {Rate: 300, ApplyThenReset: 0.01, FaultCalls: 2, Latency: partnertest.Span{Min: 5 * ms, Max: 30 * ms}},
	}, "")
	for _, s := range c.servers() {
		s.start()
	}
	stop := c.crowd(8, 50*time.Millisecond)
	targets := []string{"front-1", "lanes-1", engines.Broker, "front-2", engines.Memcached, "lanes-2", engines.Postgres, "books", "lanes-3", engines.NameServer, engines.S3}
	for round := range *clusterKills {
		target := targets[round%len(targets)]
		c.more(20 + mathrand.IntN(60))
		began := time.Now()
		if s := c.all[target]; s != nil {
			s.kill()
			s.start()
		} else {
			c.engines.Kill(target)
			c.more(10) // the users notice nothing
			c.engines.Start(target)
		}
		t.Logf("round %d: %s was killed and is back after %v", round, target, time.Since(began).Round(time.Millisecond))
	}
	stop()
	v := c.finish()
	t.Logf("%d kills, %d claims, %d orders: %d granted, %d parked, %d doubled, %d lost", *clusterKills, v.Claims, v.Orders, v.Granted, v.Parked, v.Doubled, v.Lost)
	if v.Claims < *clusterKills*20 {
		t.Errorf("only %d claims over %d rounds: the load was too small to mean anything", v.Claims, *clusterKills)
	}
}

// Nodes stop and start again in order, one after the other, and one more serves lanes
// for a while: nothing is lost or doubled, and no node waits for another.
func TestClusterRollsUnderLoad(t *testing.T) {
	const ms = partnertest.Millisecond
	c := newCluster(t, map[string]partnertest.Script{
		"dedupes": {Rate: 300, Dedupe: true, Latency: partnertest.Span{Min: 1 * ms, Max: 10 * ms}},
		"asked":   {Rate: 300, ApplyThenReset: 0.01, FaultCalls: 2, Latency: partnertest.Span{Min: 5 * ms, Max: 30 * ms}},
	}, "")
	// The order in which they start is the wrong one.
	all := c.servers()
	for i := range all {
		all[len(all)-1-i].start()
	}
	stop := c.crowd(8, 50*time.Millisecond)
	last := c.lanes[2]
	for _, s := range all {
		c.more(40)
		if s != last {
			s.terminate()
			s.start()
			continue
		}
		last.terminate() // removed for a while, and added again
		c.more(40)
		last.start()
	}
	c.more(40)
	stop()
	if v := c.finish(); v.Parked > 0 {
		t.Errorf("%d orders parked", v.Parked)
	}
}

// ask asks a node's admin port.
func (c *cluster) ask(s *server, method, path string, in, out any) {
	c.t.Helper()
	token, err := node.ReadSecret(filepath.Join(s.dir, "data", node.TokenFile))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := client.New(s.admin, token).Call(c.t.Context(), method, path, in, out); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for something that comes about by itself.
func (c *cluster) until(what string, done func() bool) {
	c.t.Helper()
	for began := time.Now(); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > patience {
			c.t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

// noted reports whether a node that is ready says this of itself.
func (c *cluster) noted(s *server, words string) bool {
	var status console.Status
	c.ask(s, http.MethodGet, "/v1/admin/status", nil, &status)
	if len(status.NotReady) > 0 {
		c.t.Errorf("a front that takes claims is not ready: %v", status.NotReady)
	}
	return strings.Contains(strings.Join(status.Notes, "\n"), words)
}

// Servers that hang, one after the other and some together, and the queue's switch held
// by hand: claims go on, the fronts stay ready and say what is wrong, and everything is
// delivered afterwards.
func TestClusterTakesClaimsThroughOutages(t *testing.T) {
	const ms = partnertest.Millisecond
	c := newCluster(t, map[string]partnertest.Script{
		"dedupes": {Rate: 500, Dedupe: true, Latency: partnertest.Span{Min: 1 * ms, Max: 10 * ms}},
		"asked":   {Rate: 500, ApplyThenReset: 0.01, FaultCalls: 2, Latency: partnertest.Span{Min: 1 * ms, Max: 10 * ms}},
	}, "durability: replicated\n")
	for _, s := range c.servers() {
		s.start()
	}
	front, other := c.fronts[0], c.fronts[1]
	stop := c.crowd(8, 20*time.Millisecond)
	c.more(50)
	c.engines.Pause(engines.Broker)
	c.until("durability is degraded", func() bool { return c.noted(front, "durability") })
	c.more(200)
	c.engines.Pause(engines.Memcached)
	c.engines.Pause(engines.Postgres)
	c.until("the ledger is named", func() bool { return c.noted(front, "ledger") })
	c.more(200)
	for _, name := range []string{engines.Memcached, engines.Postgres, engines.Broker} {
		c.engines.Resume(name)
	}
	c.until("the claims are in the queue again", func() bool { return !c.noted(front, "durability") })

	// What a person sets on one node holds on all.
	set := func(name string, mode breaker.Mode) {
		var now breaker.Snapshot
		c.ask(front, http.MethodPost, "/v1/admin/switches/"+name, console.SwitchRequest{Mode: mode, Why: "a rehearsal", Who: "test"}, &now)
	}
	held := func(s *server, name string, mode breaker.Mode) func() bool {
		return func() bool {
			var status console.Status
			c.ask(s, http.MethodGet, "/v1/admin/status", nil, &status)
			for _, b := range status.Breakers {
				if b.Name == name {
					return b.Mode == mode
				}
			}
			return false
		}
	}
	set("queue", breaker.HeldOpen)
	set("partner/asked", breaker.HeldOpen)
	c.until("the other front holds the queue's switch", held(other, "queue", breaker.HeldOpen))
	for _, s := range c.lanes {
		c.until("every lane is held", held(s, "partner/asked", breaker.HeldOpen))
	}
	c.more(100)
	set("queue", breaker.Automatic)
	set("partner/asked", breaker.Automatic)
	c.until("the other front lets the queue's switch go", held(other, "queue", breaker.Automatic))
	stop()
	if v := c.finish(); v.Parked > 0 {
		t.Errorf("%d orders parked", v.Parked)
	}
}
