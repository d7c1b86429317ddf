package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"manna/console"
	"manna/console/client"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/node"
	"manna/internal/promises"
)

// actAs makes this test binary the program itself, so that tests can start real
// processes of what they test, race detector included.
const actAs = "MANNA_TEST_ACT_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(actAs) != "" {
		main()
	}
	os.Exit(m.Run())
}

const patience = 90 * time.Second

// night is what all servers of a test have in common: the partners, and what callers
// were told.
type night struct {
	partners  []*partnertest.Partner
	rates     map[string]gift.Rate
	text      string           // of the configuration, from partners on
	campaigns []*gift.Campaign // where the stock is to be checked
	soldOut   map[string]bool

	mu       sync.Mutex
	accepted map[gift.ClaimID]bool
}

// server is `manna serve --dev` as a process of its own, with a configuration and
// partners that it keeps over restarts.
type server struct {
	*night
	t             *testing.T
	roles         string // as --role wants them
	dir, config   string
	public, admin string
	cmd           *exec.Cmd
	output        bytes.Buffer
}

// rewrite replaces text in the configuration.
func (s *server) rewrite(old, new string) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.config, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// newNight starts the partners of a campaign "k" whose gift "g" has one item from
// each.
func newNight(t *testing.T, partners map[string]partnertest.Script, settings string) *night {
	t.Helper()
	n := &night{rates: make(map[string]gift.Rate), accepted: make(map[gift.ClaimID]bool), text: "partners:\n"}
	items := ""
	for name, script := range partners {
		script.Name = name
		rate := gift.Rate(script.Rate)
		script.Rate = 0
		p := partnertest.Start(t, script)
		n.partners = append(n.partners, p)
		n.rates[name] = rate
		n.text += fmt.Sprintf("  %s:\n    adapter: http\n    url: %s/grant\n    query_url: %s/orders\n    idempotent: %t\n    rate: %v\n    timeout: 500ms\n    settles_within: 1s\n    retry: [100ms, 200ms, 400ms, 800ms, 1s, 1s, 1s]\n    breaker: {window: 2s, failure_ratio: 0.6, min_calls: 20, slow_call: 500ms, open_for: 300ms}\n", name, p.URL, p.URL, script.Dedupe, rate)
		items += fmt.Sprintf("          - {item: item-%s, partner: %s, sku: S}\n", name, name)
	}
	n.text += "campaigns:\n  k:\n    opens: 2026-01-01T00:00:00Z\n    closes: 2099-01-01T00:00:00Z\n    promise: 10m\n    gifts:\n      g:\n        items:\n" + items + settings
	return n
}

// newServer makes a server of a night of its own that needs no other servers.
func newServer(t *testing.T, partners map[string]partnertest.Script, settings string) *server {
	t.Helper()
	return newNight(t, partners, settings).server(t, "a", "front,lanes,reconcile", "")
}

// server makes a server, with a directory and ports of its own. engines are the
// sections of the configuration that are not the default.
func (n *night) server(t *testing.T, name, roles, engines string) *server {
	t.Helper()
	s := &server{night: n, t: t, roles: roles, dir: t.TempDir(), public: freeAddress(t), admin: freeAddress(t)}
	s.config = filepath.Join(s.dir, "manna.yaml")
	text := fmt.Sprintf("data: data\nnode: %s\nlisten: {public: %q, admin: %q}\nlog: {segment_bytes: 256KiB}\n", name, s.public, s.admin) + engines + n.text
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if t.Failed() {
			t.Logf("what the server %s said:\n%s", name, s.output.String())
		}
	})
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process and waits until it listens.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0], "serve", "--dev", "--json", "--role", s.roles, "--config", s.config)
	s.cmd.Env = append(os.Environ(), actAs+"=1")
	s.cmd.Stderr = &s.output
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, `"public":`) {
		s.t.Fatalf("the server ended before it listened: %v %s", err, line)
	}
}

// ready waits until every room of the server is open.
func (s *server) ready() {
	s.t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		res, err := http.Get("http://" + s.admin + "/readyz")
		if err != nil {
			s.t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
		if time.Since(began) > patience {
			s.t.Fatal("the server is not ready")
		}
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

// terminate sends SIGTERM and wants exit code 0.
func (s *server) terminate() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("after SIGTERM: %v", err)
	}
	s.cmd = nil
}

// claim posts one claim. An error means that nothing is known of its fate.
func (s *server) claim(user string) error {
	res, err := http.Post("http://"+s.public+"/v1/claims", "application/json", strings.NewReader(fmt.Sprintf(`{"campaign":"k","user":%q}`, user)))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var said struct {
		ClaimID gift.ClaimID `json:"claim_id"`
	}
	if res.StatusCode != http.StatusAccepted && res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, b)
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return err
	}
	s.mu.Lock()
	s.accepted[said.ClaimID] = true
	s.mu.Unlock()
	return nil
}

func (n *night) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.accepted)
}

// status asks the admin port.
func (s *server) status(ctx context.Context) (status console.Status, err error) {
	token, err := node.ReadSecret(filepath.Join(s.dir, "data", node.TokenFile))
	if err != nil {
		return status, err
	}
	return status, client.New(s.admin, token).Call(ctx, http.MethodGet, "/v1/admin/status", nil, &status)
}

// settle waits until no order is on its way.
func (s *server) settle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		status, err := s.status(ctx)
		if err != nil {
			s.t.Fatalf("not settled: %v", err)
		}
		left := int64(0)
		for _, l := range status.Lanes {
			left += l.Queue.Backlog + l.Queue.Deferred + l.Queue.Held
		}
		if left == 0 && len(status.Lanes) == len(s.partners) {
			return
		}
	}
}

// log are the server's records.
func (s *server) log() iter.Seq2[*fallbacklog.Record, error] {
	return fallbacklog.Records(disk.OS{}, filepath.Join(s.dir, "data", "log"))
}

// evidence is what the promises are checked from, as it is now.
func (n *night) evidence(servers ...*server) promises.Evidence {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := promises.Evidence{Rates: n.rates, Accepted: maps.Clone(n.accepted), Campaigns: n.campaigns, SoldOut: n.soldOut}
	for _, s := range servers {
		e.Logs = append(e.Logs, s.log())
	}
	for _, p := range n.partners {
		e.Books = append(e.Books, p.Books())
	}
	return e
}

// check holds the promises against the partners' books and the log.
func (s *server) check() *promises.Verdict {
	s.t.Helper()
	return s.judge(s.t, s)
}

// judge holds the promises against the partners' books and the servers' logs.
func (n *night) judge(t *testing.T, servers ...*server) *promises.Verdict {
	t.Helper()
	v := promises.Check(n.evidence(servers...))
	for _, p := range v.Promises {
		if !p.Kept {
			t.Errorf("promise %d, %s: %s", p.Number, p.Name, p.Detail)
		}
	}
	for _, example := range v.Examples {
		t.Log(example)
	}
	return v
}
