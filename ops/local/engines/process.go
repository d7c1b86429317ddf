package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A command is a program that runs in the foreground.
type command struct {
	path string
	args []string
	env  []string // in addition to ours
	user *account // nil: who we are
}

// An account is a user of the machine that a server runs as.
type account struct{ uid, gid uint32 }

func (a *account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// A process is a program that runs or ran on this machine. Its pid alone would be
// somebody else's after a while.
type process struct {
	pid  int
	boot string // the kernel's id of the boot
	born string // clock ticks from that boot to the program's start
}

// spawn starts a command that nothing of ours is the parent of: it outlives us,
// and there is no exit status that we would have to collect. What it prints is
// appended to the file log.
func spawn(c command, log string) (process, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	// The shell ends at once; its child is then the child of init.
	shell := exec.Command("/bin/sh", append([]string{"-c", `"$@" </dev/null >&3 2>&3 3>&- & echo $!`, "sh", c.path}, c.args...)...)
	shell.Dir = "/"
	shell.Env = append(os.Environ(), c.env...)
	shell.ExtraFiles = []*os.File{out}
	shell.SysProcAttr = c.user.attributes()
	said, err := shell.Output()
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", c.path, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
	if err != nil {
		return process{}, fmt.Errorf("start %s: the shell printed %q, want a pid", c.path, said)
	}
	return processOf(pid)
}

func processOf(pid int) (process, error) {
	st, err := readStat(pid)
	if err != nil {
		return process{}, fmt.Errorf("process %d ended at once: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return process{pid: pid, boot: strings.TrimSpace(string(boot)), born: st.born}, err
}

// save notes the process in a file, for load.
func (p process) save(path string) error {
	return replaceFile(path, fmt.Appendf(nil, "%d %s %s\n", p.pid, p.boot, p.born), 0o644)
}

// loadProcess returns what save noted; false if there is nothing.
func loadProcess(path string) (process, bool, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, false, nil
	}
	if err != nil {
		return process{}, false, err
	}
	var p process
	if _, err := fmt.Sscan(string(text), &p.pid, &p.boot, &p.born); err != nil {
		return process{}, false, fmt.Errorf("%s: %w: look whether the process it names is yours, end it, delete the file", path, err)
	}
	return p, true, nil
}

// A condition is what a process is in.
type condition int

const (
	gone condition = iota
	running
	stopped // by a signal
)

func (p process) condition() condition {
	now, err := processOf(p.pid)
	if err != nil || now != p {
		return gone
	}
	st, err := readStat(p.pid)
	switch {
	case err != nil || !alive(p.pid):
		return gone
	case st.state == "T" || st.state == "t":
		return stopped
	default:
		return running
	}
}

// signal sends a signal to the process and to all that descend from it: the
// children of PostgreSQL go on serving while their parent is stopped. The parent
// comes first, so that a stopped one makes no more of them.
func (p process) signal(sig syscall.Signal) error {
	if p.condition() == gone {
		return nil
	}
	if err := signalOne(p.pid, sig); err != nil {
		return err
	}
	for _, pid := range p.family()[1:] {
		if err := signalOne(pid, sig); err != nil {
			return err
		}
	}
	return nil
}

func signalOne(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %v to process %d: %w", sig, pid, err)
	}
	return nil
}

// family returns the process and its descendants, parents first.
func (p process) family() []int {
	children := make(map[int][]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if st, err := readStat(pid); err == nil {
			children[st.parent] = append(children[st.parent], pid)
		}
	}
	family := []int{p.pid}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}

// kill ends the process and its descendants without asking, and returns once the
// kernel has let go of all of them and of their ports.
func (p process) kill() error {
	// Stopped, the family neither grows nor notices that its head is gone.
	if err := p.signal(syscall.SIGSTOP); err != nil || p.condition() == gone {
		return err
	}
	family := p.family()
	for _, pid := range family {
		if err := signalOne(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, pid := range family {
		if !eventually(10*time.Second, func() bool { return !alive(pid) }) {
			return fmt.Errorf("process %d does not end, though it was killed", pid)
		}
	}
	return nil
}

// end asks the process to end and waits; past patience it kills it.
func (p process) end(sig syscall.Signal, patience time.Duration) error {
	if err := p.signal(syscall.SIGCONT); err != nil || p.condition() == gone {
		return err
	}
	if err := signalOne(p.pid, sig); err != nil {
		return err
	}
	if eventually(patience, func() bool { return p.condition() == gone }) {
		return nil
	}
	return p.kill()
}

// alive reports whether a process holds anything, such as a port. A dead process
// that nobody has waited for holds nothing, unless some of its threads are still
// on their way out.
func alive(pid int) bool {
	st, err := readStat(pid)
	if err != nil {
		return false
	}
	if st.state != "Z" && st.state != "X" {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err == nil && len(threads) > 1
}

// eventually asks until the answer is yes, for so long.
func eventually(long time.Duration, yes func() bool) bool {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); <-poll.C {
		if yes() {
			return true
		}
	}
	return yes()
}

type stat struct {
	state  string
	parent int
	born   string
}

// readStat reads /proc/PID/stat. The program's name, in brackets, may hold
// anything, brackets included; after it come the fields from the third on.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %d fields after the name, want 20", pid, len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	return stat{state: fields[0], parent: parent, born: fields[19]}, err
}
