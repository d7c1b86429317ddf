//go:build engines

package memcachetest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"manna/ops/local/engines"
)

// readyWithin is how long a server may take until it answers.
const readyWithin = 30 * time.Second

// Server is a real memcached in a process of the test's own.
type Server struct {
	Addr string

	t    testing.TB
	path string
	args []string
	cmd  *exec.Cmd
}

// Start runs memcached with further arguments until the test ends. It installs what
// is missing, and fails the test where that may not be.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	s := &Server{Addr: addr.String(), t: t, path: engines.Program(t, engines.Memcached), args: append([]string{"-l", "127.0.0.1", "-p", fmt.Sprint(addr.Port), "-U", "0", "-c", "1024"}, args...)}
	if os.Geteuid() == 0 {
		s.args = append(s.args, "-u", "nobody")
	}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Restart runs the server again, empty, on the same port, after Kill.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command(s.path, s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(10 * time.Millisecond) {
		if s.ask("version", "VERSION") == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("memcached on %s does not answer", s.Addr)
		}
	}
}

// Kill ends the server with SIGKILL. It is harmless where it has ended.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Pause stops the server: it stays connected and says nothing.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Wipe has the server forget everything.
func (s *Server) Wipe() {
	s.t.Helper()
	if err := s.ask("flush_all", "OK"); err != nil {
		s.t.Fatal(err)
	}
}

// ask sends a command and wants an answer that begins so.
func (s *Server) ask(command, want string) error {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, want) {
		err = fmt.Errorf("it answers %q", line)
	}
	return err
}
