//go:build engines

package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Engines are servers that a test has to itself until it ends, so that it may kill
// them. A method that fails fails the test; each may be called from any goroutine.
type Engines struct {
	t     testing.TB
	dir   *Dir
	names []string
}

// Up brings up the named servers, with those that they need, in the run directory
// $MANNA_RUN or ops/local/run, and gives them to the test. It waits for other
// tests that have one of them, in other processes too, so a test asks once for all
// that it wants; a broker comes with its name server. When the test ends, what it
// killed or paused is brought up again; what it stored stays, so it uses names of
// its own for topics, keys, databases and objects. It fails the test when a server
// cannot be had, and leaves no goroutine.
func Up(t testing.TB, names ...string) *Engines {
	t.Helper()
	// Cut off in time, so that the test says why instead of being cut off itself.
	ctx, cancel := t.Context(), context.CancelFunc(func() {})
	if timed, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := timed.Deadline(); ok {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second))
		}
	}
	defer cancel()

	path, err := runDirectory()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := Open(ctx, path, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := pick(withNeeds(names))
	if err != nil {
		t.Fatal(err)
	}
	e := &Engines{t: t, dir: dir}
	for _, s := range chosen { // always in this order: two tests never wait for each other
		give, err := lockFile(ctx, dir.file("use", s.name), func(holder string) {
			t.Logf("waiting for %s, which %s uses", s.name, holder)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(give)
		e.names = append(e.names, s.name)
	}
	if err := dir.Start(ctx, e.names...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*readyTimeout)
		defer cancel()
		if err := dir.Start(ctx, e.names...); err != nil {
			t.Errorf("after the test: %v", err)
		}
	})
	return e
}

// Program is the path of a server's program, Memcached, Postgres or S3, which it
// installs where it is missing. It is for a test that needs servers of its own, with
// other settings or several of a kind. PostgreSQL's other programs lie beside it. It
// takes no server, so it waits for no other test, and fails the test as Up does.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := runDirectory()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := Open(t.Context(), path, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	if path, err = dir.program(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return path
}

func (d *Dir) program(ctx context.Context, name string) (string, error) {
	chosen, err := pick([]string{name})
	if err != nil {
		return "", err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := d.installPrograms(ctx, chosen); err != nil {
		return "", err
	}
	if install := chosen[0].install; install != nil {
		if err := install(ctx, d); err != nil {
			return "", err
		}
	}
	switch name {
	case Memcached:
		return exec.LookPath("memcached")
	case Postgres:
		return postgresProgram("postgres")
	case S3:
		return d.versitygw(), nil
	}
	return "", fmt.Errorf("%s is no program of its own: ask for the server with Up", name)
}

// Addr is a server's address, host:port, which it keeps when it is killed and
// started.
func (e *Engines) Addr(name string) string { return e.dir.Addr(name) }

// DSN is PostgreSQL's address with its credentials; its user may make databases.
func (e *Engines) DSN() string { return e.dir.DSN() }

// BucketURL is the S3 bucket's URL for gocloud.dev/blob, which takes AccessKey and
// SecretKey from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
func (e *Engines) BucketURL() string { return e.dir.BucketURL() }

// Kill ends a server with SIGKILL.
func (e *Engines) Kill(name string) { e.t.Helper(); e.change(name, e.dir.Kill) }

// Start brings a server up again and returns when it answers.
func (e *Engines) Start(name string) { e.t.Helper(); e.change(name, e.dir.Start) }

// Wipe removes what a server has stored that was killed, as when its disk is replaced.
func (e *Engines) Wipe(name string) { e.t.Helper(); e.change(name, e.dir.Wipe) }

// Pause stops a server with SIGSTOP: it stays connected and says nothing.
func (e *Engines) Pause(name string) { e.t.Helper(); e.change(name, e.dir.Pause) }

// Resume lets a paused server go on.
func (e *Engines) Resume(name string) { e.t.Helper(); e.change(name, e.dir.Resume) }

func (e *Engines) change(name string, do func(context.Context, ...string) error) {
	e.t.Helper()
	if !slices.Contains(e.names, name) {
		e.t.Errorf("the test has no %s: name it in engines.Up", name)
		return
	}
	// The test's own context has ended when a cleanup calls.
	ctx, cancel := context.WithTimeout(context.Background(), 2*readyTimeout)
	defer cancel()
	if err := do(ctx, name); err != nil {
		e.t.Error(err)
	}
}

// runDirectory finds ops/local/run from a package's directory, where tests run.
func runDirectory() (string, error) {
	if path := os.Getenv("MANNA_RUN"); path != "" {
		return path, nil
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		local := filepath.Join(dir, "ops", "local")
		if _, err := os.Stat(filepath.Join(local, "engines", "doc.go")); err == nil {
			return filepath.Join(local, "run"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no ops/local above " + here + ": name a run directory with MANNA_RUN")
		}
	}
}

// testLog puts progress into a test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("%s", line[:len(line)-1])
	return len(line), nil
}
