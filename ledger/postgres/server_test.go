//go:build engines

package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ops/local/engines"
)

const serverPassword = "hunter2-secret"

// server is a PostgreSQL of the test's own, which it may kill.
type server struct {
	dir    string
	bin    string // where PostgreSQL's programs are
	port   int
	owner  *syscall.Credential // PostgreSQL refuses to run as root
	parent int                 // pid
	ended  chan struct{}       // closed when the parent has ended
}

func newServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "manna-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{dir: dir, bin: filepath.Dir(engines.Program(t, engines.Postgres))}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(serverPassword), 0o644); err != nil {
		t.Fatal(err)
	}
	init := s.command("initdb", "-D", s.data(), "-U", "manna", "--pwfile="+password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// dsn names the server with a password.
func (s *server) dsn(password string) string {
	return fmt.Sprintf("postgres://manna:%s@127.0.0.1:%d/postgres?sslmode=disable", password, s.port)
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return cmd
}

// start returns once the server answers. Begun right after a kill, the server gives
// up while a process of the one before is not quite dead, and is begun again.
func (s *server) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.begin(t, log)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.dsn(serverPassword))
		if err == nil {
			conn.Close(ctx)
			return
		}
		select {
		case <-s.ended:
			s.begin(t, log)
		case <-pause.C:
		case <-ctx.Done():
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not come up: %v\n%s", err, said)
		}
	}
}

func (s *server) begin(t *testing.T, log *os.File) {
	t.Helper()
	cmd := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off") // what a killed process has written, the kernel still has
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	s.parent, s.ended = cmd.Process.Pid, ended
}

// kill ends all of the server's processes at once. It may be called again.
func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	<-s.ended
}

// signal reaches all of the server's processes, the parent first, so that it makes
// no more of them.
func (s *server) signal(sig syscall.Signal) {
	select {
	case <-s.ended:
		return
	default:
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.parent, s.parent))
	for _, pid := range append([]string{strconv.Itoa(s.parent)}, strings.Fields(string(children))...) {
		if pid, err := strconv.Atoi(pid); err == nil {
			syscall.Kill(pid, sig)
		}
	}
}
