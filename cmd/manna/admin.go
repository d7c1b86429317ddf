package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"manna/console/client"
	"manna/internal/config"
	"manna/internal/node"
)

// admin asks the running server that a configuration describes.
type admin struct {
	client *client.Client
	file   string // the configuration's, for the remedy
}

// admin finds the server of the configuration. The configuration comes with
// client.ErrNoServer too: its log can be read without a server.
func (e *env) admin() (*admin, *config.Config, error) {
	c, err := config.Load(e.config)
	if err != nil {
		return nil, nil, err
	}
	host, port, err := net.SplitHostPort(c.Listen.Admin)
	if err != nil {
		return nil, nil, fmt.Errorf("listen.admin: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	path := filepath.Join(c.Data, node.TokenFile)
	token, err := node.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c, fmt.Errorf("%w: %s is missing, so no server has run on %s yet; start one with `manna serve --config %s`", client.ErrNoServer, path, c.Data, e.config)
	}
	if err != nil {
		return nil, nil, err
	}
	return &admin{client.New(net.JoinHostPort(host, port), token), e.config}, c, nil
}

// call makes one request; client.Client has what its errors mean.
func (a *admin) call(ctx context.Context, method, path string, in, out any) error {
	err := a.client.Call(ctx, method, path, in, out)
	if errors.Is(err, client.ErrNoServer) {
		return fmt.Errorf("%w: start it with `manna serve --config %s`", err, a.file)
	}
	return err
}
