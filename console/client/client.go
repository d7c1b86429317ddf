package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"

	"manna/gift"
)

// ErrNoServer: nobody listens at the address.
var ErrNoServer = errors.New("no server answers")

// maxAnswer bounds the bytes that are read of an answer.
const maxAnswer = 64 << 20

// Client asks one admin port. It is safe for concurrent use.
type Client struct {
	base, token string
	http        http.Client
}

// New makes a client for the admin port at address, host:port, and its token. It
// connects to nothing.
func New(address, token string) *Client {
	return &Client{base: "http://" + address, token: token}
}

// Call makes one request with in as its JSON body, where in is not nil, and reads
// the answer into out. The package comment says what its errors mean.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	res, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s", ErrNoServer, c.base)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("%s answered %s with more than %d bytes", c.base, path, maxAnswer)
	}
	if res.StatusCode != http.StatusOK {
		return c.refusal(res.Status, b)
	}
	return json.Unmarshal(b, out)
}

// refusal reads what the server says of a request that it did not carry out.
func (c *Client) refusal(status string, body []byte) error {
	var problem struct {
		Code          gift.Code
		Detail, Field string
	}
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		return fmt.Errorf("%s answered %s, which is nothing that manna says: does another program listen there?", c.base, status)
	}
	return &gift.Error{Code: problem.Code, Detail: problem.Detail, Field: problem.Field}
}
