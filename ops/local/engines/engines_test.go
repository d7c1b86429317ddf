//go:build engines

package engines

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServers takes real servers in a directory of their own through all that a
// server can go through.
func TestServers(t *testing.T) {
	ctx := t.Context()
	path := t.TempDir()
	// A test's directory lies in one that is closed to PostgreSQL's user.
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, path, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// For a test that fails half-way; else there is nothing left to do.
		if err := d.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	want := func(t *testing.T, name string, state State) Status {
		t.Helper()
		all, err := d.Status(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if all[0].State != state {
			t.Fatalf("%s is %s (%s), want %s", name, all[0].State, all[0].Error, state)
		}
		return all[0]
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range Names() {
		want(t, name, StateDown)
	}
	// Two at once: the second waits and finds all done.
	first, second := async(func() error { return d.Up(ctx) }), async(func() error { return d.Up(ctx) })
	must(t, first())
	must(t, second())
	pids := make(map[string]int)
	for _, name := range Names() {
		pids[name] = want(t, name, StateUp).PID
	}
	began := time.Now()
	must(t, d.Up(ctx))
	t.Logf("up, with all up: %v", time.Since(began))
	for _, name := range Names() {
		if st := want(t, name, StateUp); st.PID != pids[name] {
			t.Errorf("a second up made another %s: process %d, was %d", name, st.PID, pids[name])
		}
	}

	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			must(t, d.Pause(ctx, name))
			want(t, name, StatePaused)
			all, err := pick([]string{name})
			must(t, err)
			if err := d.ask(ctx, all[0]); err == nil {
				t.Errorf("a paused %s answers", name)
			}
			must(t, d.Resume(ctx, name))
			must(t, d.Up(ctx, name))
			want(t, name, StateUp)

			address := d.Addr(name)
			must(t, d.Kill(ctx, name))
			want(t, name, StateDead)
			if err := d.Kill(ctx, name); err == nil {
				t.Errorf("killing a dead %s is fine, want an error", name)
			}
			must(t, d.Start(ctx, name))
			if st := want(t, name, StateUp); st.PID == pids[name] || st.Address != address {
				t.Errorf("%s came back as process %d on %s, want another than %d and %s", name, st.PID, st.Address, pids[name], address)
			}
		})
	}
	must(t, d.Kill(ctx, NameServer, Broker))
	if err := d.Start(ctx, Broker); err == nil || !strings.Contains(err.Error(), "start that first") {
		t.Errorf("a broker without its name server starts: %v; want an error with the remedy", err)
	}
	must(t, d.Up(ctx))

	text, err := os.ReadFile(d.file("engines.yaml"))
	must(t, err)
	if got, want := string(text), d.settings(Names()); got != want {
		t.Errorf("engines.yaml is\n%s\nwant\n%s", got, want)
	}

	must(t, d.Down(ctx))
	for _, name := range Names() {
		want(t, name, StateDown)
	}
	must(t, d.Wipe(ctx))
	must(t, d.Down(ctx)) // a second time there is nothing to do
	if _, err := os.Stat(d.file("engines.yaml")); err == nil {
		t.Error("engines.yaml outlives the servers")
	}
}

// TestProgramsAreThere finds what a test starts servers of its own with.
func TestProgramsAreThere(t *testing.T) {
	for _, name := range []string{Memcached, Postgres, S3} {
		out, err := exec.Command(Program(t, name), "--version").CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// TestUpGivesServersToATest uses the helper as another package's test does.
func TestUpGivesServersToATest(t *testing.T) {
	t.Setenv("MANNA_RUN", t.TempDir())
	var dir *Dir
	t.Run("kills and leaves", func(t *testing.T) {
		e := Up(t, Memcached)
		dir = e.dir
		ask := func() error { return probeMemcached(t.Context(), dir) }
		if err := ask(); err != nil {
			t.Error(err)
		}
		e.Kill(Memcached)
		if ask() == nil {
			t.Error("memcached answers after Kill")
		}
		e.Start(Memcached)
		e.Pause(Memcached)
		e.Resume(Memcached)
		e.Kill(Memcached)
	})
	t.Run("next", func(t *testing.T) {
		all, err := dir.Status(t.Context(), Memcached)
		if err != nil || all[0].State != StateUp {
			t.Errorf("after the test, memcached is %+v, %v; want it up again", all, err)
		}
	})
	if err := dir.Down(t.Context()); err != nil {
		t.Error(err)
	}
}
