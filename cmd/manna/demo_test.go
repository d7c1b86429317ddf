package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C, delivered twice, in the middle of the claims: the demo says how far it
// came, ends its processes and leaves nothing behind.
func TestDemoInterrupted(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "demo", "--claims", "100", "--seed", "5")
	cmd.Env = append(os.Environ(), actAs+"=1", "TMPDIR="+dir)
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, last := "", ""
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		last = lines.Text()
		if said += last + "\n"; strings.Contains(last, "claims begin") {
			cmd.Process.Signal(os.Interrupt)
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitWrong {
		t.Errorf("want exit code 1: %v", err)
	}
	if !strings.HasPrefix(last, "manna: interrupted after ") || !strings.Contains(last, " of 100 requests sent, ") ||
		!strings.Contains(last, "`manna demo --claims 100 --seed 5`") || strings.Contains(said, "context canceled") {
		t.Errorf("it said\n%s", said)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v: %v", left, err)
	}
}
