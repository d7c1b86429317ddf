package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// probeTimeout is for one question.
	probeTimeout = 3 * time.Second
	// readyTimeout is from the start of a server to its first answer. A broker that
	// died with much in its store has to read it first.
	readyTimeout = 90 * time.Second
	// endedTimeout is for the kernel to take back the port of a dead process.
	endedTimeout = 2 * time.Second
	// endTimeout is for an end in order.
	endTimeout = 20 * time.Second
)

// Up brings up the named servers and those they need, all if none is named, and
// returns once each of them answers. What is missing is installed. Servers that
// answer already are left alone. With an error, the servers that could be brought
// up stay up.
func (d *Dir) Up(ctx context.Context, names ...string) error {
	return d.bringUp(ctx, withNeeds(names))
}

// Start is Up for exactly the named servers: one that needs another which is not
// up is an error.
func (d *Dir) Start(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return errors.New("name the servers to start")
	}
	return d.bringUp(ctx, names)
}

func (d *Dir) bringUp(ctx context.Context, names []string) error {
	chosen, err := pick(names)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	packages := async(func() error { return d.installPrograms(ctx, chosen) })
	up := make(map[string]func() error)
	for _, s := range chosen {
		needed := up[s.needs] // nil if it is not among the chosen
		up[s.name] = async(func() error {
			err := d.bringUpOne(ctx, s, packages, needed)
			if err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
				d.say(s.name, "failed")
			}
			return err
		})
	}
	errs := []error{packages()}
	for _, s := range chosen {
		errs = append(errs, up[s.name]())
	}
	errs = append(errs, d.writeSettings(ctx))
	return errors.Join(errs...)
}

// async runs f in a goroutine of its own. What it returns waits for the end and
// says how it was, as often as it is called.
func async(f func() error) (wait func() error) {
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = f()
	}()
	return func() error {
		<-done
		return err
	}
}

func (d *Dir) bringUpOne(ctx context.Context, s server, packages, needed func() error) error {
	if slices.ContainsFunc(s.programs, func(p program) bool { return !p.there(d) }) {
		if packages() != nil {
			return errors.New("its programs are not installed")
		}
	}
	p, known, err := loadProcess(d.file("pid", s.name))
	if err != nil {
		return err
	}
	if known && p.condition() != gone {
		if err := p.signal(syscall.SIGCONT); err != nil {
			return err
		}
		if needed != nil && needed() != nil {
			return fmt.Errorf("it needs %s", s.needs)
		}
		if d.ask(ctx, s) == nil {
			d.say(s.name, "is up on %s", d.Addr(s.name))
			return nil
		}
		d.say(s.name, "runs as process %d; waiting for its answer", p.pid)
		return d.await(ctx, s, p)
	}
	if other, ok := needs(s); ok && needed == nil {
		if err := d.ask(ctx, other); err != nil {
			return fmt.Errorf("it needs %s, which does not answer (%w): start that first", other.name, err)
		}
	}
	if s.install != nil {
		if err := s.install(ctx, d); err != nil {
			return err
		}
	}
	if needed != nil && needed() != nil {
		return fmt.Errorf("it needs %s", s.needs)
	}
	port := d.ports[s.name]
	if !eventually(endedTimeout, func() bool { return free(port, port+1) }) {
		return fmt.Errorf("another program listens on port %d: end it, or delete %s for new ports", port, d.file("ports.json"))
	}
	c, err := s.prepare(ctx, d)
	if err != nil {
		return err
	}
	began := time.Now()
	if p, err = spawn(c, d.logFile(s.name)); err != nil {
		return d.withTail(s.name, err)
	}
	if err := p.save(d.file("pid", s.name)); err != nil {
		return errors.Join(err, p.kill())
	}
	if err := d.await(ctx, s, p); err != nil {
		return err
	}
	d.say(s.name, "up on %s, process %d, after %.1f s", d.Addr(s.name), p.pid, time.Since(began).Seconds())
	return nil
}

// needs returns the server that has to answer before s can.
func needs(s server) (server, bool) {
	all := servers()
	i := slices.IndexFunc(all, func(other server) bool { return other.name == s.needs })
	if i < 0 {
		return server{}, false
	}
	return all[i], true
}

// ask asks the server one question.
func (d *Dir) ask(ctx context.Context, s server) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return s.probe(ctx, d)
}

// await asks until the server answers, dies, or has had its time.
func (d *Dir) await(ctx context.Context, s server, p process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := d.ask(ctx, s)
		if err == nil {
			return nil
		}
		if p.condition() == gone {
			return d.withTail(s.name, fmt.Errorf("process %d ended before it answered (%w)", p.pid, err))
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return d.withTail(s.name, fmt.Errorf("process %d runs but does not answer (%w)", p.pid, err))
		}
	}
}

// Down ends the named servers in order, all if none is named. Their data stays.
func (d *Dir) Down(ctx context.Context, names ...string) error {
	chosen, err := pick(names)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	down := make(map[string]func() error)
	slices.Reverse(chosen) // a broker says goodbye to its name server
	for _, s := range chosen {
		var before []func() error
		for _, other := range chosen {
			if other.needs == s.name {
				before = append(before, down[other.name])
			}
		}
		down[s.name] = async(func() error {
			for _, wait := range before {
				_ = wait() // it says itself what went wrong
			}
			return d.downOne(s)
		})
	}
	var errs []error
	for _, s := range chosen {
		errs = append(errs, down[s.name]())
	}
	errs = append(errs, d.writeSettings(ctx))
	return errors.Join(errs...)
}

func (d *Dir) downOne(s server) error {
	p, known, err := loadProcess(d.file("pid", s.name))
	if err != nil || !known {
		return err
	}
	if p.condition() == gone {
		d.say(s.name, "was dead")
	} else {
		if err := p.end(s.quit, endTimeout); err != nil {
			return err
		}
		d.say(s.name, "down")
	}
	return os.Remove(d.file("pid", s.name))
}

// Wipe removes what the named servers have stored, all if none is named. They have to
// be down or dead.
func (d *Dir) Wipe(ctx context.Context, names ...string) error {
	chosen, err := pick(names)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, s := range chosen {
		if p, known, err := loadProcess(d.file("pid", s.name)); err != nil || known && p.condition() != gone {
			return errors.Join(err, fmt.Errorf("%s runs: its data is not removed", s.name))
		}
		if err := os.RemoveAll(d.file("data", s.name)); err != nil {
			return err
		}
		d.say(s.name, "removed all data in %s", d.file("data", s.name))
	}
	return nil
}

// Kill ends the named servers with SIGKILL and returns when their processes are
// gone. To Status they are dead.
func (d *Dir) Kill(ctx context.Context, names ...string) error {
	return d.each(ctx, names, "killed", process.kill)
}

// Pause stops the named servers with SIGSTOP: connections stay open, connecting
// works, nothing answers.
func (d *Dir) Pause(ctx context.Context, names ...string) error {
	return d.each(ctx, names, "paused", func(p process) error {
		if err := p.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		if !eventually(time.Second, func() bool { return p.condition() == stopped }) {
			return fmt.Errorf("process %d does not stop", p.pid)
		}
		return nil
	})
}

// Resume lets paused servers go on, with SIGCONT.
func (d *Dir) Resume(ctx context.Context, names ...string) error {
	return d.each(ctx, names, "resumed", func(p process) error { return p.signal(syscall.SIGCONT) })
}

// each does something to the process of each named server.
func (d *Dir) each(ctx context.Context, names []string, done string, do func(process) error) error {
	if len(names) == 0 {
		return errors.New("name the servers that should be " + done)
	}
	chosen, err := pick(names)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, s := range chosen {
		p, known, err := loadProcess(d.file("pid", s.name))
		if err != nil {
			return err
		}
		if !known || p.condition() == gone {
			return fmt.Errorf("%s does not run", s.name)
		}
		if err := do(p); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		d.say(s.name, "%s, process %d", done, p.pid)
	}
	return nil
}
