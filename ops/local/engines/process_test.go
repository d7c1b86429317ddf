//go:build linux

package engines

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleeper starts a shell that has a child, as PostgreSQL has many.
func sleeper(t *testing.T) process {
	t.Helper()
	p, err := spawn(command{path: "/bin/sh", args: []string{"-c", "echo begun; sleep 1000; echo over"}}, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.kill() })
	// A shell that has made a child by vfork stands still until that one has become its
	// program, and cannot be stopped meanwhile. Then it sleeps.
	began := func() bool {
		st, err := readStat(p.pid)
		return err == nil && st.state == "S" && len(p.family()) == 2
	}
	if !eventually(5*time.Second, began) {
		t.Fatalf("the shell has no child")
	}
	return p
}

func TestAProcessAndItsChildrenStopAndDie(t *testing.T) {
	p := sleeper(t)
	if got := p.condition(); got != running {
		t.Fatalf("condition %d, want running", got)
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	family := p.family()
	for _, pid := range family {
		if !eventually(5*time.Second, func() bool { st, err := readStat(pid); return err == nil && st.state == "T" }) {
			t.Errorf("process %d of %v is not stopped", pid, family)
		}
	}
	if got := p.condition(); got != stopped {
		t.Errorf("condition %d, want stopped", got)
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range family {
		if alive(pid) {
			t.Errorf("process %d of %v lives on", pid, family)
		}
	}
	if got := p.condition(); got != gone {
		t.Errorf("condition %d, want gone", got)
	}
}

func TestAProcessThatDoesNotListenIsKilled(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := spawn(command{path: "/bin/sh", args: []string{"-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.kill() })
	if !eventually(5*time.Second, func() bool { text, _ := os.ReadFile(log); return strings.Contains(string(text), "deaf") }) {
		t.Fatal("the shell says nothing into its log")
	}
	if err := p.end(syscall.SIGTERM, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := p.condition(); got != gone {
		t.Errorf("condition %d, want gone", got)
	}
}

// A pid that another program has by now is not ours: it is gone, and is sent no
// signal.
func TestAPidUsedAgainIsNotOurs(t *testing.T) {
	p := sleeper(t)
	path := filepath.Join(t.TempDir(), "pid")
	for _, stale := range []process{
		{pid: p.pid, boot: p.boot, born: "1"},
		{pid: p.pid, boot: "another", born: p.born},
	} {
		if err := stale.save(path); err != nil {
			t.Fatal(err)
		}
		loaded, known, err := loadProcess(path)
		if err != nil || !known || loaded != stale {
			t.Fatalf("loaded %+v, %v, %v; want %+v", loaded, known, err, stale)
		}
		if got := loaded.condition(); got != gone {
			t.Errorf("%+v: condition %d, want gone", stale, got)
		}
		if err := loaded.kill(); err != nil {
			t.Error(err)
		}
	}
	if got := p.condition(); got != running {
		t.Errorf("the other program's condition is %d, want running", got)
	}
}

func TestADamagedPidFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("12"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := loadProcess(path); err == nil {
		t.Error("half a pid file is fine, want an error")
	}
}
