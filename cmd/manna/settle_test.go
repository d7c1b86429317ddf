//go:build engines

package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"manna/console"
	"manna/ledger"
	"manna/ledger/postgres"
	"manna/ops/local/engines"
)

// registeredEngines is the part of a configuration that puts nodes into one register, with one
// archive, and the register itself.
func registeredEngines(t *testing.T) (text string, l *postgres.Ledger) {
	t.Helper()
	dsn, schema := engines.Up(t, engines.Postgres).DSN(), "t"+strings.ToLower(rand.Text()[:10])
	l, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Schema: schema, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return fmt.Sprintf("ledger: {engine: postgres, dsn: %q, schema: %s}\narchive: {url: %q}\n", dsn, schema, "file://"+t.TempDir()), l
}

// node gives a node as the register has it.
func (s *server) node(l *postgres.Ledger, name string) ledger.Node {
	s.t.Helper()
	nodes, _, err := l.Nodes(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == name {
			return n
		}
	}
	s.t.Fatalf("no node %s in %+v", name, nodes)
	return ledger.Node{}
}

// told waits until the register knows all that the server's log has.
func (s *server) told(l *postgres.Ledger, name string) {
	s.t.Helper()
	status, err := s.status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); s.node(l, name).LogEnd < status.LogEnd; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			s.t.Fatalf("the register has not heard of %v", status.LogEnd)
		}
	}
}

// copied copies the data directory, as a snapshot of the machine would.
func (s *server) copied(name string) {
	s.t.Helper()
	if err := os.CopyFS(filepath.Join(s.dir, name), os.DirFS(filepath.Join(s.dir, "data"))); err != nil {
		s.t.Fatal(err)
	}
}

// swapped puts a copy in the place of the data directory, or nothing, and gives where
// that is now.
func (s *server) swapped(name string) (away string) {
	s.t.Helper()
	data := filepath.Join(s.dir, "data")
	away = filepath.Join(s.dir, "before-"+name)
	if err := os.Rename(data, away); err != nil {
		s.t.Fatal(err)
	}
	if name != "" {
		if err := os.Rename(filepath.Join(s.dir, name), data); err != nil {
			s.t.Fatal(err)
		}
	}
	return away
}

func (s *server) claims(prefix string, n int) {
	s.t.Helper()
	for i := range n {
		if err := s.claim(fmt.Sprint(prefix, i)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// succeeds runs a command that has to.
func (s *server) succeeds(words []string, args ...string) string {
	s.t.Helper()
	return s.answers(exitDone, words, args...)
}

// answers runs a command and wants an exit code, and words in what it says.
func (s *server) answers(want int, words []string, args ...string) string {
	s.t.Helper()
	code, out, errOut := s.cli(args...)
	if code != want {
		s.t.Fatalf("manna %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	for _, w := range words {
		if !strings.Contains(strings.Join(strings.Fields(out+errOut), " "), w) {
			s.t.Errorf("manna %s does not say %q:\n%s%s", strings.Join(args, " "), w, out, errOut)
		}
	}
	return out
}

// A data directory that was brought back from a copy is not let in as the node's: not
// one that was taken while the node ran, nor one that has been started before the
// register was asked. What the error names helps.
func TestACopyOfADataDirectoryIsTurnedAway(t *testing.T) {
	text, l := registeredEngines(t)
	s := newNight(t, goodPartner, "").server(t, "a", "front,lanes,reconcile", text)
	s.start()
	s.claims("early", 10)
	s.settle()
	s.copied("first")
	s.copied("second")
	s.claims("late", 10)
	s.settle()
	s.told(l, "a")
	s.terminate()
	// A start that writes nothing takes nothing of that back.
	s.start()
	s.terminate()
	before := s.node(l, "a")

	s.swapped("first")
	for range 2 {
		said := s.refused()
		for _, want := range []string{ledger.ErrLogShort.Error(), before.LogEnd.String(), "manna log restore", "manna node lose a", "name of its own"} {
			if !strings.Contains(said, want) {
				t.Errorf("%q does not say %q", said, want)
			}
		}
	}
	if after := s.node(l, "a"); after.Epoch != before.Epoch || after.State != ledger.NodeLeft || after.LogEnd != before.LogEnd {
		t.Errorf("the register has %+v after %+v", after, before)
	}
	s.succeeds([]string{"brought back"}, "log", "restore")
	s.start()
	s.claims("restored", 3)
	s.settle()
	s.terminate()
	s.check()

	s.swapped("second")
	if said := s.refused(); !strings.Contains(said, ledger.ErrLogShort.Error()) {
		t.Errorf("the second copy: %q", said)
	}
	s.succeeds([]string{"lost"}, "node", "lose", "a", "--why", "the disk is gone, and the archive too")
	s.start()
	s.claims("another log", 1)
	if n := s.node(l, "a"); n.State != ledger.NodeUp || n.Epoch <= before.Epoch {
		t.Errorf("the register has %+v", n)
	}
	s.kill()
}

// A copy that is started beside the living original gets nothing to do, however young
// it is, and the original goes on.
func TestACopyBesideTheOriginalIsTurnedAway(t *testing.T) {
	text, l := registeredEngines(t)
	n := newNight(t, goodPartner, "")
	s, twin := n.server(t, "a", "front,lanes,reconcile", text), n.server(t, "a", "front,lanes,reconcile", text)
	s.start()
	s.claims("early", 10)
	s.settle()
	s.told(l, "a")
	before := s.node(l, "a")
	if err := os.CopyFS(filepath.Join(twin.dir, "data"), os.DirFS(filepath.Join(s.dir, "data"))); err != nil {
		t.Fatal(err)
	}
	said := twin.refused()
	for _, want := range []string{ledger.ErrNodeBeats.Error(), s.admin, "copy", "name of its own"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	if after := s.node(l, "a"); after.Epoch != before.Epoch {
		t.Errorf("the register has %+v after %+v", after, before)
	}
	s.claims("late", 10)
	s.settle()
	// The original need not wait for its own last beat.
	began := time.Now()
	s.kill()
	s.start()
	if took := time.Since(began); s.node(l, "a").Epoch == before.Epoch || took > ledger.BeatWithin {
		t.Errorf("the original was back after %v, as %+v", took, s.node(l, "a"))
	}
	s.terminate()
	s.check()
}

// What a node had leased and not handed out comes back by its whole log, and only by
// that.
func TestNodeSettle(t *testing.T) {
	text, l := registeredEngines(t)
	n := newNight(t, goodPartner, "        stock: 1000\n")
	s, other := n.server(t, "a", "front,lanes,reconcile", text), n.server(t, "b", "front,lanes,reconcile", text)
	key := ledger.StockKey{Campaign: "k", Gift: "g"}
	lease := func(upTo int64) {
		t.Helper()
		at := s.node(l, "a")
		if _, err := l.Lease(t.Context(), key, ledger.Holder{Node: "a", Epoch: at.Epoch}, ledger.Ask{Total: 1000, UpTo: upTo}); err != nil {
			t.Fatal(err)
		}
	}
	held := func(want int64) {
		t.Helper()
		if p, _, err := l.Leases(t.Context(), key); err != nil || p.Held != want {
			t.Errorf("%d are leased, %v, want %d", p.Held, err, want)
		}
	}
	settle := []string{"node", "settle", "a", "--why", "it is gone"}
	own := filepath.Join(s.dir, "data")

	s.start()
	lease(60)
	s.claims("u", 7)
	s.settle()
	s.answers(exitUsage, []string{"--why is missing"}, "node", "settle", "a")
	s.answers(exitWrong, []string{"it is up", "60 of k/g"}, settle...)
	s.answers(exitWrong, []string{"it is up"}, append(settle, "--data", own)...)
	s.told(l, "a")
	s.copied("copy")
	s.claims("v", 2)
	s.settle()
	s.told(l, "a")
	s.kill()
	s.answers(exitWrong, []string{"it is up"}, settle...) // nobody can tell
	s.succeeds(nil, "node", "lose", "a", "--why", "burnt")
	s.answers(exitWrong, []string{"it has not left in order", "start it again on its own data directory", "manna node settle a --data DIR", "at most 60 of k/g"}, settle...)
	s.answers(exitWrong, []string{"its log ends at", "at most 60 of k/g"}, append(settle, "--data", filepath.Join(s.dir, "copy"))...)
	s.answers(exitWrong, []string{"home.id"}, append(settle, "--data", t.TempDir())...)
	s.answers(exitWrong, []string{`no node "c"`}, "node", "settle", "c", "--why", "x")
	held(60)
	s.succeeds([]string{"CAMPAIGN GIFT LEASED USED GIVEN BACK", "k g 60 9 51", own}, append(settle, "--data", own)...)
	held(9)

	// It comes back, and leaves with a lease that the ledger was not there to take back.
	s.start()
	lease(30)
	s.claims("w", 3)
	s.settle()
	s.terminate()
	held(30)
	var got console.Settlement
	if err := json.Unmarshal([]byte(s.succeeds(nil, append(settle, "--json")...)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Gifts) != 1 || got.Gifts[0] != (console.SettledGift{Campaign: "k", Gift: "g", Leased: 30, Used: 12, GivenBack: 18}) {
		t.Errorf("settled %+v", got)
	}
	held(12)
	other.start()
	other.succeeds([]string{"k g 12 12 0", "the archive"}, settle...) // asks the server
	other.terminate()

	// Another log takes the name: what the old one says settles what the old one had.
	s.start()
	lease(50)
	epoch := s.node(l, "a").Epoch
	s.claims("x", 1)
	s.settle()
	s.told(l, "a")
	s.kill()
	s.succeeds(nil, "node", "lose", "a", "--why", "burnt again")
	old := s.swapped("")
	s.start()
	former := ledger.Former("a", epoch)
	s.answers(exitWrong, []string{"it is up", former}, settle...)
	s.answers(exitWrong, []string{"does not say which log", "at most 50 of k/g"}, "node", "settle", former, "--why", "burnt again")
	s.answers(exitWrong, []string{"locked"}, "node", "settle", former, "--why", "x", "--data", own)
	held(50)
	s.succeeds([]string{"k g 50 13 37"}, "node", "settle", former, "--why", "burnt again", "--data", old)
	held(13)
	s.terminate()
}
