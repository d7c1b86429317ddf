package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"manna/delivery/partnertest"
	"manna/gift"
)

var goodPartner = map[string]partnertest.Script{"p": {Rate: 500, Dedupe: true}}

// cli runs a command of this program in this process.
func (s *server) cli(args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	code = run(s.t.Context(), append([]string{"--config", s.config}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// refused runs a second server that must not start, and gives its last words.
func (s *server) refused() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "serve", "--dev", "--config", s.config)
	cmd.Env = append(os.Environ(), actAs+"=1")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != exitWrong {
		s.t.Fatalf("want exit code 1: %v\n%s", err, errOut.String())
	}
	lines := strings.Split(strings.TrimSpace(errOut.String()), "\n")
	return lines[len(lines)-1]
}

func TestSecondProcessOnADataDirectoryIsTurnedAway(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	said := s.refused()
	for _, want := range []string{"locked", fmt.Sprint(s.cmd.Process.Pid), "one process owns a data directory"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	s.terminate()
}

func TestPortInUseIsNamed(t *testing.T) {
	s := newServer(t, goodPartner, "")
	other := newServer(t, goodPartner, "")
	other.start()
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, bytes.ReplaceAll(text, []byte(s.public), []byte(other.public)), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := s.refused(); !strings.Contains(said, "listen.public") || !strings.Contains(said, other.public) {
		t.Errorf("%q names neither key nor address", said)
	}
	if data := filepath.Join(s.dir, "data"); exists(t, data) {
		t.Errorf("a server that could not listen left %s behind", data)
	}
	other.terminate()
}

func TestFlippedBitKeepsTheServerFromStarting(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	for i := range 50 {
		if err := s.claim(fmt.Sprint("u", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.settle()
	s.terminate()
	_, place, _ := s.cli("log", "cat", "--kind", "claimed")
	var segment, offset int
	if _, err := fmt.Sscanf(place, "%d:%d", &segment, &offset); err != nil {
		t.Fatalf("%v in %q", err, place)
	}
	path := filepath.Join(s.dir, "data", "log", fmt.Sprintf("%08d.seg", segment))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[offset+20] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	said := s.refused()
	for _, want := range []string{path, "offset", "manna log repair"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	if code, out, _ := s.cli("log", "verify"); code != exitWrong || !strings.Contains(out, "DAMAGED") {
		t.Errorf("log verify: exit code %d\n%s", code, out)
	}
	if code, out, errOut := s.cli("log", "repair"); code != exitDone || !strings.Contains(out, "records kept") {
		t.Errorf("log repair: exit code %d\n%s%s", code, out, errOut)
	}
	s.start()
	s.settle()
	if code, out, _ := s.cli("reconcile", "--json", "--dry-run"); !strings.Contains(out, fmt.Sprintf("segment %d of the log has lost", segment)) {
		t.Errorf("the report does not tell the loss: exit code %d\n%s", code, out)
	}
	s.terminate()
	if code, out, _ := s.cli("log", "verify"); code != exitDone {
		t.Errorf("log verify after repair: exit code %d\n%s", code, out)
	}
	if _, out, _ := s.cli("log", "cat", "--kind", "lost"); !strings.Contains(out, fmt.Sprintf("segment %d of the log has lost", segment)) {
		t.Errorf("log cat does not tell the loss:\n%s", out)
	}
}

func TestHangupReloadsWholeOrNotAtAll(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	s.ready()
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	rate := func() gift.Rate {
		status, err := s.status(t.Context())
		if err != nil || len(status.Lanes) != 1 {
			t.Fatalf("status: %v", err)
		}
		return status.Lanes[0].Rate
	}
	reload := func(text string, done func() bool) {
		t.Helper()
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.cmd.Process.Signal(syscall.SIGHUP)
		for began := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > patience {
				t.Fatal("the reload had no effect")
			}
		}
	}
	// A broken file changes nothing; the good one after it, taken in order, shows
	// that the broken one has been looked at.
	if err := os.WriteFile(s.config, []byte("nonsense: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd.Process.Signal(syscall.SIGHUP)
	reload(strings.Replace(string(good), "rate: 500/s", "rate: 400/s", 1), func() bool { return rate() == 400 })
	if err := s.claim("after"); err != nil {
		t.Error(err)
	}
	s.settle()
	s.terminate()
	s.rates["p"] = 500
	s.check()
}

func TestHeldSwitchOutlivesARestart(t *testing.T) {
	s := newServer(t, goodPartner, "")
	s.start()
	if code, _, errOut := s.cli("switch", "partner/p", "open"); code != exitUsage || !strings.Contains(errOut, "--why") {
		t.Errorf("without --why: exit code %d, %s", code, errOut)
	}
	if code, _, errOut := s.cli("switch", "partner/p", "open", "--why", "they asked", "--who", "night desk"); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	s.kill()
	s.start()
	if _, out, _ := s.cli("switch"); !strings.Contains(out, "held_open") || !strings.Contains(out, "night desk") || !strings.Contains(out, "they asked") {
		t.Errorf("after SIGKILL the switch is not held any more:\n%s", out)
	}
	if err := s.claim("waits"); err != nil {
		t.Fatal(err)
	}
	if got := s.partners[0].Books().Arrivals; got != 0 {
		t.Errorf("%d calls through a held switch", got)
	}
	if code, _, errOut := s.cli("switch", "partner/p", "auto"); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	s.settle()
	s.terminate()
	s.check()
}

// The partner never answers, so a stop in order waits for its timeout. A SIGTERM
// that is delivered twice does not cut that short; one that comes later does.
func TestSecondTerminationEndsAtOnce(t *testing.T) {
	s := newServer(t, map[string]partnertest.Script{"p": {Rate: 500, Dedupe: true, Timeout: 1}}, "shutdown: 90s\n")
	for old, new := range map[string]string{"timeout: 500ms": "timeout: 60s", "settles_within: 1s": "settles_within: 60s", "window: 2s": "window: 300s", "slow_call: 500ms": "slow_call: 60s"} {
		s.rewrite(old, new)
	}
	s.start()
	if err := s.claim("u"); err != nil {
		t.Fatal(err)
	}
	for s.partners[0].Books().Arrivals == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	for {
		// Claims are refused as soon as the first signal has been taken.
		if res, err := http.Get("http://" + s.public + "/openapi.json"); err != nil {
			break
		} else {
			res.Body.Close()
		}
	}
	taken := time.Now()
	for time.Since(began) < repeatAfter/2 {
		s.cmd.Process.Signal(syscall.SIGTERM)
		time.Sleep(repeatAfter / 20)
	}
	// From here on a signal counts, and the process is still there to take it.
	time.Sleep(time.Until(taken.Add(repeatAfter)))
	res, err := http.Get("http://" + s.admin + "/healthz")
	if err != nil {
		t.Fatalf("signals within %v ended the process: %v", repeatAfter, err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	s.cmd.Process.Signal(syscall.SIGTERM)
	err = s.cmd.Wait()
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	if took := time.Since(began); err == nil || code != exitWrong || took > 30*time.Second {
		t.Errorf("ended after %v with %v: want at once, and not as if all were in order", took, err)
	}
	if !strings.Contains(s.output.String(), "manna: "+errAborted.Error()) {
		t.Errorf("the server did not say why it stopped:\n%s", s.output.String())
	}
}
