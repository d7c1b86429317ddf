package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a server that runs beside the load.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan error
}

// start runs a command and decodes the first line it prints into said. What it
// writes to standard error goes to words. The process is killed when ctx ends.
func start(ctx context.Context, name string, said any, words io.Writer, path string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.CommandContext(ctx, path, args...), done: make(chan error, 1)}
	p.cmd.Stderr = words
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	r := bufio.NewReader(out)
	line, err := r.ReadBytes('\n')
	var failed struct{ Error *struct{ Message string } }
	if err == nil {
		err = errors.Join(json.Unmarshal(line, said), json.Unmarshal(line, &failed))
	}
	if err == nil && failed.Error != nil {
		err = errors.New(failed.Error.Message)
	}
	go func() {
		io.Copy(io.Discard, r)
		p.done <- p.cmd.Wait()
	}()
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	return p, nil
}

// pause keeps the process off the processor until resume: a round of another
// must not pay for what this one still has to do.
func (p *process) pause() error  { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process with SIGTERM and waits.
func (p *process) stop() error {
	const bound = time.Minute
	p.resume()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("%s ended badly: %w", p.name, err)
		}
		return nil
	case <-time.After(bound):
		p.kill()
		return fmt.Errorf("%s did not stop within %v", p.name, bound)
	}
}

// used is what the process, which has ended, took of the machine.
func (p *process) used() (cpu time.Duration, peakBytes int64) {
	s := p.cmd.ProcessState
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		peakBytes = int64(u.Maxrss) * 1024
	}
	return s.UserTime() + s.SystemTime(), peakBytes
}
