package node

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"manna/internal/config"
)

// addresses are those to listen on. Without authentication only loopback will do.
func (n *Node) addresses() (public, admin string, err error) {
	public, admin = n.config.Listen.Public, n.config.Listen.Admin
	if !n.opts.Dev {
		return public, admin, nil
	}
	for key, address := range map[string]*string{"listen.public": &public, "listen.admin": &admin} {
		host, port, err := net.SplitHostPort(*address)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", key, err)
		}
		if host == "" {
			*address = net.JoinHostPort("127.0.0.1", port)
			continue
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", "", fmt.Errorf("%s: --dev asks nobody who they are, so it listens on loopback only, and %s is not: write %s, or configure auth and leave --dev out", key, *address, net.JoinHostPort("127.0.0.1", port))
		}
	}
	return public, admin, nil
}

// listen opens both ports.
func (n *Node) listen(public, admin string) (err error) {
	if n.has(RoleFront) {
		if n.public, err = listen(public, "listen.public"); err != nil {
			return err
		}
		n.opened(n.public.Close)
	}
	if n.admin, err = listen(admin, "listen.admin"); err != nil {
		return err
	}
	n.opened(n.admin.Close)
	return nil
}

func listen(address, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: set %s to a free address, or stop who has this one", key, err, key)
	}
	return l, nil
}

// Public is the address that claims are taken on; "" without the role.
func (n *Node) Public() string {
	if n.public == nil {
		return ""
	}
	return n.public.Addr().String()
}

// Admin is the address of the admin port.
func (n *Node) Admin() string { return n.admin.Addr().String() }

// servers are the two HTTP servers.
func (n *Node) servers(l config.Limits) (public, admin *http.Server) {
	errors := slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug)
	public = &http.Server{
		Handler: n.front.Handler(), ReadHeaderTimeout: l.ReadTimeout, ReadTimeout: l.ReadTimeout, WriteTimeout: l.WriteTimeout,
		IdleTimeout: l.IdleTimeout, MaxHeaderBytes: 32 << 10, ErrorLog: errors,
	}
	// A reconciliation answers when it is done, which may take minutes.
	admin = &http.Server{Handler: n.console.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: errors}
	return public, admin
}
