package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"manna/console"
	"manna/gift"
	"manna/internal/node"
	"manna/producer"
)

// desk is an admin port that takes claims and answers as it is told: what a real
// server does only when its disk is full or somebody is quick.
type desk struct {
	t      *testing.T
	config string

	hung chan struct{} // closed when the request hangs

	mu       sync.Mutex
	calls    int
	away     int                  // how many requests are still turned away whole; -1: all
	hangs    int                  // number of the request that is never answered
	busy     map[string]int       // how often a user is still answered unavailable; -1: always
	accepted map[gift.ClaimID]int // how often a claim was made
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, hung: make(chan struct{}), busy: make(map[string]int), accepted: make(map[gift.ClaimID]int)}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	text := strings.Replace(checked, "data: /srv/manna", "data: data\nlisten: {admin: \""+server.Listener.Addr().String()+"\"}", 1)
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	d.config = writeConfig(t, text)
	data := filepath.Join(filepath.Dir(d.config), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, node.TokenFile), []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q console.ClaimsRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		producer.WriteProblem(w, gift.Errorf(gift.BadRequest, "%v", err))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.calls == d.hangs {
		close(d.hung)
		<-r.Context().Done()
		return
	}
	if d.away != 0 {
		d.away--
		producer.WriteProblem(w, gift.Errorf(gift.Unavailable, "the audit cannot be written"))
		return
	}
	var a console.ClaimsAnswer
	for _, c := range q.Claims {
		var result console.ClaimResult
		switch left := d.busy[c.User]; {
		case left != 0:
			d.busy[c.User] = left - 1
			result.Code, result.Detail = gift.Unavailable, "the disk is full"
		case strings.HasPrefix(c.User, "bad"):
			result.Code, result.Detail = gift.NotEligible, "not in the segment"
		default:
			id := gift.NewCampaignID(c.Campaign).ClaimID("", c.User, "")
			d.accepted[id]++
			result.ClaimID, result.Duplicate = &id, d.accepted[id] > 1
		}
		a.Results = append(a.Results, result)
	}
	json.NewEncoder(w).Encode(a)
}

// users writes a CSV file of n users, u0 to u(n-1), each named otherwise where
// named has its number.
func users(t *testing.T, n int, named map[int]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("user,campaign\n")
	for i := range n {
		user, ok := named[i]
		if !ok {
			user = fmt.Sprint("u", i)
		}
		fmt.Fprintf(&b, "%s,spring\n", user)
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// grant runs the command without pauses between tries, and gives its exit code and
// its document: the summary, with the reason where it failed.
func (d *desk) grant(file string, set ...func(*grant)) (code int, sum grantSummary, said reason) {
	d.t.Helper()
	var out, errOut bytes.Buffer
	g := &grant{env: &env{out: &out, err: &errOut, config: d.config, json: true}, file: file}
	for _, f := range set {
		f(g)
	}
	switch err := g.run(d.t.Context()); err {
	case nil:
	case errFound:
		code = exitWrong
	default:
		code = fail(&out, &errOut, true, err)
		f := struct {
			Error *reason
			Done  *grantSummary
		}{&said, &sum}
		if err := json.Unmarshal(out.Bytes(), &f); err != nil {
			d.t.Fatalf("%v in %s", err, out.String())
		}
		return code, sum, said
	}
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		d.t.Fatalf("%v in %s", err, out.String())
	}
	return code, sum, said
}

func restart(g *grant) { g.restart = true }

func exists(t *testing.T, file string) bool {
	t.Helper()
	_, err := os.Stat(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

// left wants the named files beside a CSV file, and no others of grant's.
func (d *desk) left(file string, want ...string) {
	d.t.Helper()
	for _, ending := range []string{".progress", ".refused.csv"} {
		if got := exists(d.t, file+ending); got != slices.Contains(want, ending) {
			d.t.Errorf("%s: is there: %t, want %t", file+ending, got, !got)
		}
	}
}

func TestGrant(t *testing.T) {
	d := newDesk(t)
	file := users(t, 2500, map[int]string{7: "u6", 1200: "", 1300: "bad1", 2400: "bad2"})
	code, sum, _ := d.grant(file)
	if code != exitWrong || sum.Rows != 2500 || sum.Accepted != 2496 || sum.Duplicates != 1 || sum.Refused != 3 || sum.Skipped != 0 || sum.Undone != 0 {
		t.Errorf("exit code %d, %+v", code, sum)
	}
	if sum.Codes["not_eligible"] != 2 || sum.Codes["bad_request"] != 1 {
		t.Errorf("codes %v", sum.Codes)
	}
	d.left(file, ".refused.csv")
	b, err := os.ReadFile(sum.RefusedFile)
	want := "user,campaign,line,code,detail\n,spring,1202,bad_request,user is empty\nbad1,spring,1302,not_eligible,not in the segment\nbad2,spring,2402,not_eligible,not in the segment\n"
	if err != nil || string(b) != want {
		t.Errorf("refused rows: %v\n%s\nwant\n%s", err, b, want)
	}

	file = users(t, 3, nil)
	if code, sum, _ := d.grant(file); code != exitDone || sum.Duplicates != 3 || sum.RefusedFile != "" {
		t.Errorf("claimed before: exit code %d, %+v", code, sum)
	}
	d.left(file)
}

// A server that is busy now and then has each row claimed until it is taken, and
// no row counts twice for it.
func TestGrantClaimsBusyRowsAgain(t *testing.T) {
	d := newDesk(t)
	d.busy["u3"], d.busy["u8"] = 2, tries-1
	code, sum, _ := d.grant(users(t, 10, nil))
	if code != exitDone || sum.Accepted != 10 || sum.Duplicates != 0 || sum.Refused != 0 {
		t.Errorf("exit code %d, %+v", code, sum)
	}
	if d.calls != tries {
		t.Errorf("%d requests, want %d", d.calls, tries)
	}
	for id, times := range d.accepted {
		if times != 1 {
			t.Errorf("claim %v was made %d times", id, times)
		}
	}
}

// A server that turns whole requests away is busy with every row of them.
func TestGrantSendsRefusedRequestsAgain(t *testing.T) {
	d := newDesk(t)
	d.away = 2
	if code, sum, said := d.grant(users(t, 10, nil)); code != exitDone || sum.Accepted != 10 || d.calls != 3 {
		t.Errorf("exit code %d after %d requests, %+v, %+v", code, d.calls, sum, said)
	}
	d.away = -1
	file := users(t, 10, nil)
	if code, _, said := d.grant(file); code != exitWrong || said.Code != "unavailable" || !strings.Contains(said.Message, "did not take 10 of 10 rows in 30 tries") {
		t.Errorf("exit code %d, %+v", code, said)
	}
	d.left(file)
}

// Rows that the server never took are neither done nor refused: the same command
// goes on with them, and with nothing else that was done.
func TestGrantKeepsRowsThatWereNotTaken(t *testing.T) {
	d := newDesk(t)
	d.busy["u1500"], d.busy["u1700"] = -1, -1
	file := users(t, 2200, map[int]string{3: "bad"})
	code, sum, said := d.grant(file)
	if code != exitWrong || said.Code != "unavailable" || sum.Rows != 1998 || sum.Accepted != 1997 || sum.Refused != 1 || sum.Undone != 2 {
		t.Fatalf("exit code %d, %+v, %+v", code, said, sum)
	}
	for _, want := range []string{"the disk is full", "did not take 2 of 1000 rows in 30 tries, the first in line 1502", "1,998 rows: 1,997 accepted", "2 not settled", "the same command goes on"} {
		if !strings.Contains(said.Message, want) {
			t.Errorf("got %q without %q", said.Message, want)
		}
	}
	d.left(file, ".progress", ".refused.csv")

	// Still not: nothing is forgotten over it.
	if code, sum, said := d.grant(file); code != exitWrong || said.Code != "unavailable" || sum.Undone != 2 || sum.Skipped != 1998 || sum.Accepted != 200 {
		t.Fatalf("again: exit code %d, %+v, %+v", code, said, sum)
	}
	clear(d.busy)
	code, sum, _ = d.grant(file)
	if code != exitWrong || sum.Rows != 2 || sum.Accepted != 2 || sum.Duplicates != 0 || sum.Skipped != 2198 {
		t.Errorf("the last time: exit code %d (a row was refused in the first run), %+v", code, sum)
	}
	d.left(file, ".refused.csv")
	if b, err := os.ReadFile(sum.RefusedFile); err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), "bad,spring,5,") {
		t.Errorf("refused rows: %v\n%s", err, b)
	}
	if len(d.accepted) != 2199 {
		t.Errorf("%d users have a claim, want 2199", len(d.accepted))
	}
	for id, times := range d.accepted {
		if times != 1 {
			t.Errorf("claim %v was made %d times", id, times)
		}
	}
}

// Progress belongs to a file's content and to what the flags added to it.
func TestGrantGoesOnWithTheSameFileOnly(t *testing.T) {
	d := newDesk(t)
	d.busy["u2"] = -1
	file := users(t, 5, nil)
	if code, sum, _ := d.grant(file); code != exitWrong || sum.Undone != 1 {
		t.Fatalf("exit code %d, %+v", code, sum)
	}
	clear(d.busy)
	before := d.calls
	if _, _, said := d.grant(file, func(g *grant) { g.all.Gift = "card" }); !strings.Contains(said.Message, "other flags") || !strings.Contains(said.Message, "--restart") {
		t.Errorf("other flags: got %q", said.Message)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Another user in as many bytes.
	if err := os.WriteFile(file, bytes.Replace(b, []byte("u4"), []byte("x4"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, said := d.grant(file); !strings.Contains(said.Message, "another file") || !strings.Contains(said.Message, "--restart") {
		t.Errorf("another file of the same size: got %q", said.Message)
	}
	if d.calls != before {
		t.Errorf("%d requests were made in vain", d.calls-before)
	}
	if code, sum, _ := d.grant(file, restart); code != exitDone || sum.Rows != 5 || sum.Accepted != 2 || sum.Duplicates != 3 {
		t.Errorf("anew: exit code %d, %+v", code, sum)
	}
	d.left(file)
}

// A line that is no CSV ends the run at its place, with what comes before it done.
func TestGrantNamesABrokenLine(t *testing.T) {
	d := newDesk(t)
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte("user,campaign\na,spring\nb,spring\n\"c\"d,spring\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, sum, said := d.grant(file)
	if code != exitWrong || said.Line != 4 || said.File != file || sum.Accepted != 2 || !strings.Contains(said.Message, "--restart") {
		t.Errorf("exit code %d, %+v, %+v", code, said, sum)
	}
}

// Where nothing was claimed nothing is left behind.
func TestGrantWithoutAServerLeavesNothing(t *testing.T) {
	s := newServer(t, goodPartner, "")
	if err := os.MkdirAll(filepath.Join(s.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "data", node.TokenFile), []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := users(t, 5, nil)
	code, out, errOut := s.cli("grant", "--json", file)
	if f := failed(t, out); code != exitWrong || f.Error.Code != "no_server" || f.Done != nil || !strings.Contains(errOut, "manna serve --config") {
		t.Errorf("exit code %d, %s%s", code, out, errOut)
	}
	(&desk{t: t}).left(file)
}

// Ctrl-C in the middle of a batch: the user is told what was done, and the same
// command does the rest.
func TestGrantInterrupted(t *testing.T) {
	d := newDesk(t)
	file := users(t, 3000, nil)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "grant", "--json", "--config", d.config, file)
	cmd.Env = append(os.Environ(), actAs+"=1")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	d.mu.Lock()
	d.hangs = 2
	d.mu.Unlock()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-d.hung
	cmd.Process.Signal(os.Interrupt)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitWrong {
		t.Fatalf("want exit code 1: %v\n%s", err, errOut.String())
	}
	want := "manna: interrupted\n1,000 rows: 1,000 accepted, 0 duplicates, 0 refused; 1,000 not settled; the same command goes on from there\n"
	if errOut.String() != want {
		t.Errorf("got %q, want %q", errOut.String(), want)
	}
	if f := failed(t, out.String()); f.Error.Code != "interrupted" || f.Done == nil {
		t.Errorf("got %s", out.String())
	}
	code, sum, _ := d.grant(file)
	if code != exitDone || sum.Skipped != 1000 || sum.Rows != 2000 || sum.Accepted != 2000 {
		t.Errorf("exit code %d, %+v", code, sum)
	}
	d.left(file)
}

// The whole way: a file of users, a real server, a partner's books.
func TestGrantOnAServer(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte("user,campaign\na,k\nb,\na,k\nc,nope\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := s.cli("grant", "--campaign", "k", file)
	if code != exitWrong || !strings.Contains(out, "4 rows: 2 accepted, 1 duplicate, 1 refused") || !strings.Contains(out, file+".refused.csv") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	s.settle()
	s.terminate()
	s.check()
	if got := len(s.partners[0].Books().Grants); got != 2 {
		t.Errorf("%d gifts were given, want 2", got)
	}
}
