package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"

	"manna/internal/config"
	"manna/internal/node"
)

// client speaks to the admin port of a running server.
type client struct {
	base, token string
	config      string
	http        http.Client
}

// errNoServer: nobody answers at the admin port.
var errNoServer = errors.New("no server answers")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// admin makes a client for the server that the configuration describes.
func (e *env) admin() (*client, *config.Config, error) {
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
	a := &client{base: "http://" + net.JoinHostPort(host, port), config: e.config}
	path := filepath.Join(c.Data, node.TokenFile)
	a.token, err = node.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, c, fmt.Errorf("%w: %s is missing, so no server has run on %s yet; start one with `manna serve --config %s`", errNoServer, path, c.Data, e.config)
	}
	return a, c, err
}

// call makes one request. A problem that the server answers is the error.
func (a *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s: start it with `manna serve --config %s`", errNoServer, a.base, a.config)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var problem struct{ Code, Detail, Field string }
		if json.Unmarshal(b, &problem) != nil || problem.Code == "" {
			return fmt.Errorf("%s answered %s", a.base, res.Status)
		}
		if problem.Field != "" {
			problem.Detail = problem.Field + ": " + problem.Detail
		}
		return fmt.Errorf("%s: %s", problem.Code, problem.Detail)
	}
	return json.Unmarshal(b, out)
}

// print writes v as one JSON document, or as text makes it.
func (e *env) print(v any, text func(io.Writer) error) error {
	if e.json {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	return text(e.out)
}
