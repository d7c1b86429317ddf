//go:build engines

package buckettest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"manna/ops/local/engines"
)

// What a Server lets in.
const (
	AccessKey = "manna"
	SecretKey = "manna-test"
)

// Server is a versitygw of a test's own, with its data in a directory of the test, so
// that the test may kill it and start it with other flags. Tags and checksums are in
// the files' extended attributes, which the temporary directory has to support: kept
// in files beside them, a reader may get one object with another one's tag, and a
// condition on that tag lets two writers through.
type Server struct {
	t    testing.TB
	path string
	Addr string
	Root string // each directory in it is a bucket

	mu     sync.Mutex
	cmd    *exec.Cmd
	output bytes.Buffer
}

// Start starts a server with an empty bucket, and puts its credentials into the
// environment. It installs the program where it is missing, and fails the test where
// that may not be.
func Start(t testing.TB, name string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, path: engines.Program(t, engines.S3), Addr: l.Addr().String(), Root: t.TempDir()}
	l.Close()
	if err := os.Mkdir(filepath.Join(s.Root, name), 0o700); err != nil {
		t.Fatal(err)
	}
	if setter, ok := t.(interface{ Setenv(key, value string) }); ok {
		setter.Setenv("AWS_ACCESS_KEY_ID", AccessKey)
		setter.Setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	}
	s.Up()
	t.Cleanup(s.Kill)
	return s
}

// URL is a bucket's address. addr is the server's, or that of what stands before it.
func (s *Server) URL(name, addr string) string {
	return "s3://" + name + "?endpoint=http://" + addr + "&region=us-east-1&path_style=true"
}

// Up starts the server, with more flags, and returns when it answers.
func (s *Server) Up(flags ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	args := append([]string{"--quiet", "--port", s.Addr, "--region", "us-east-1"}, flags...)
	s.cmd = exec.Command(s.path, append(args, "posix", s.Root)...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // nothing else tells that it listens
		case <-ctx.Done():
			s.t.Fatalf("versitygw does not answer: %s", s.output.Bytes())
		}
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}
