package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"

	"manna/console"
	"manna/console/client"
	"manna/consumer"
	"manna/internal/node"
)

// server is one node of the demo: `manna serve` with ports and data of its own.
type server struct {
	name          string
	roles         string // as --role wants them
	dir           string // of the demo
	config        string
	public, admin string

	mu      sync.Mutex
	process *process
	desk    *client.Client // of its admin port
}

// newServer chooses a node's ports. It must listen on the same ones after a crash, so
// it cannot choose for itself.
func newServer(dir, name, roles string) (s *server, err error) {
	s = &server{name: name, roles: roles, dir: dir, config: filepath.Join(dir, name+".yaml")}
	if s.public, err = freePort(); err != nil {
		return nil, err
	}
	s.admin, err = freePort()
	return s, err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *server) data() string { return filepath.Join(s.dir, s.name) }

func (s *server) logDir() string { return filepath.Join(s.data(), "log") }

func (s *server) start(ctx context.Context) error {
	var said map[string]string
	child, err := start(ctx, s.dir, s.name, &said, "serve", "--dev", "--json", "--role", s.roles, "--config", s.config)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = child
	token, err := node.ReadSecret(filepath.Join(s.data(), node.TokenFile))
	s.desk = client.New(s.admin, token)
	return err
}

// current is the process that runs now; nil before the first.
func (s *server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// call asks the node's admin port.
func (s *server) call(ctx context.Context, method, path string, in, out any) error {
	s.mu.Lock()
	desk := s.desk
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return desk.Call(ctx, method, path, in, out)
}

// crash kills the node in the middle of its work and starts it again.
func (s *server) crash(ctx context.Context) error {
	s.current().kill()
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("%s after SIGKILL: %w", s.name, err)
	}
	return nil
}

func (s *server) stop() error {
	if p := s.current(); p != nil {
		return p.stop(stopTime)
	}
	return nil
}

// status puts together how the nodes that answer stand; an error where none does.
func status(ctx context.Context, servers []*server) (*console.Status, error) {
	var all *console.Status
	var failed error
	for _, s := range servers {
		var one console.Status
		if err := s.call(ctx, http.MethodGet, "/v1/admin/status", nil, &one); err != nil {
			failed = err
			continue
		}
		if all == nil {
			all = &one
			continue
		}
		for _, l := range one.Lanes {
			if i := slices.IndexFunc(all.Lanes, func(m consumer.LaneStatus) bool { return m.Partner == l.Partner }); i >= 0 {
				m := &all.Lanes[i]
				m.Calls, m.InFlight, m.Queue.Held = m.Calls+l.Calls, m.InFlight+l.InFlight, m.Queue.Held+l.Queue.Held
				continue
			}
			all.Lanes = append(all.Lanes, l)
		}
	}
	if all == nil {
		return nil, failed
	}
	return all, nil
}
