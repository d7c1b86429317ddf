package engines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

func TestPortsAreChosenOnceAndRemembered(t *testing.T) {
	path := t.TempDir()
	first, err := Open(t.Context(), path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(t.Context(), path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, name := range Names() {
		if first.Addr(name) != second.Addr(name) {
			t.Errorf("%s is on %s, and on %s when the directory is opened again", name, first.Addr(name), second.Addr(name))
		}
		if seen[first.Addr(name)] {
			t.Errorf("%s shares %s", name, first.Addr(name))
		}
		seen[first.Addr(name)] = true
	}
}

func TestDamagedPortsAreRefused(t *testing.T) {
	for _, text := range []string{"", "{", `{"broker": 1}`} {
		path := t.TempDir()
		if err := os.WriteFile(path+"/ports.json", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, io.Discard); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("ports.json %q: %v; want an error with the remedy", text, err)
		}
	}
}

func TestATakenPortIsNotFree(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if free(port-1, port+1) {
		t.Errorf("port %d has a listener and counts as free", port)
	}
}

func TestTheLockHasOneHolder(t *testing.T) {
	d, err := Open(t.Context(), t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := d.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = lockFile(ctx, d.file("lock"), func(holder string) {
		if want := fmt.Sprintf("process %d", os.Getpid()); holder != want {
			t.Errorf("the lock is held by %q, want %q", holder, want)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v, want it to wait until it is told not to", err)
	}
	unlock()
	unlock, err = d.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestNamesOfServers(t *testing.T) {
	if _, err := pick([]string{"redis"}); err == nil || !strings.Contains(err.Error(), "postgres") {
		t.Errorf("an unknown server: %v; want an error that lists those there are", err)
	}
	chosen, err := pick(withNeeds([]string{Broker}))
	if err != nil {
		t.Fatal(err)
	}
	if len(chosen) != 2 || chosen[0].name != NameServer || chosen[1].name != Broker {
		t.Errorf("broker with its needs: %d servers, first %s; want the name server, then the broker", len(chosen), chosen[0].name)
	}
}

func TestSettingsHoldWhatIsUp(t *testing.T) {
	d := &Dir{path: "/run/manna", ports: map[string]int{NameServer: 1, Broker: 2, Memcached: 3, Postgres: 4, S3: 5}}
	want := `# The servers of /run/manna, as sections of manna.yaml.
queue: {engine: rocketmq, nameservers: [127.0.0.1:1], group: manna}
archive: {url: "s3://manna?endpoint=http://127.0.0.1:5&region=us-east-1&use_path_style=true", access_key: manna, secret_key: manna-local}
`
	if got := d.settings([]string{NameServer, Broker, S3}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
