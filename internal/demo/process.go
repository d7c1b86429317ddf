package demo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// startTime bounds how long a process may take until it says that it listens.
const startTime = 60 * time.Second

// process is a child that the demo owns.
type process struct {
	name string
	log  string // file with what it says on standard error
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; set before done is closed
}

// start runs this very program with other arguments and waits for the one JSON
// line in which it says where it listens. Its errors go to a file in dir.
func start(ctx context.Context, dir, name string, said any, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	logs, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	cmd := exec.Command(self, args...)
	cmd.Stderr = logs
	// Children live in a group of their own: Ctrl-C reaches the demo alone, which
	// then ends them in order. The kernel ends them should the demo be killed.
	cmd.SysProcAttr = childAttr()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: logs.Name(), cmd: cmd, done: make(chan struct{})}
	started, first := make(chan error, 1), make(chan error, 1)
	go p.live(out, said, started, first)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	timeout := time.NewTimer(startTime)
	defer timeout.Stop()
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = errors.New("it did not say in time where it listens")
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	return p, nil
}

// heard reads the line in which a process says where it listens, or why it does
// not.
func heard(line []byte, said any) error {
	var failed struct {
		Error *struct{ Message string }
	}
	if err := json.Unmarshal(line, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return errors.New(failed.Error.Message)
	}
	return json.Unmarshal(line, said)
}

// lastWords is the last line of what a process said, or that it said nothing.
func lastWords(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return cmp.Or(lines[len(lines)-1], "none")
}

// live starts the process, reads its first line, and stays until it has ended.
func (p *process) live(out io.Reader, said any, started, first chan<- error) {
	defer close(p.done)
	// The kernel counts the thread that started a child as its parent, so that
	// thread has to live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.err = p.cmd.Start()
	if started <- p.err; p.err != nil {
		return
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadBytes('\n'); err != nil {
		first <- fmt.Errorf("it ended, and its last words are: %s", lastWords(p.log))
	} else {
		first <- heard(line, said)
	}
	io.Copy(io.Discard, r)
	p.err = p.cmd.Wait()
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end and waits; past the bound it is killed.
func (p *process) stop(bound time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w", p.name, p.err)
		}
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not stop within %v", p.name, bound)
	}
}
