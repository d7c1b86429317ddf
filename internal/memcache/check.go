package memcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// checkWithin bounds the look at one server.
const checkWithin = 2 * time.Second

// Check looks at every server and says what is wrong with each, and the remedy.
// None of it is a reason not to start.
func (c *Client) Check(ctx context.Context) []error {
	found := make([]error, len(c.servers))
	done := make(chan struct{})
	for i, s := range c.servers {
		go func() {
			found[i] = c.check(ctx, s.address)
			done <- struct{}{}
		}()
	}
	var errs []error
	for range c.servers {
		<-done
	}
	for _, err := range found {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errs
}

// check asks one server for its settings, on a connection of its own: gomemcache
// has no way to.
func (c *Client) check(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	correct := fmt.Sprintf("correct %s: {servers}; claims go on without it", c.name)
	silent := fmt.Errorf("memcached %s does not answer within %v: see whether it hangs, or %s", address, checkWithin, correct)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	switch {
	case err != nil && ctx.Err() != nil:
		return silent
	case err != nil:
		return fmt.Errorf("memcached %s cannot be reached: %w: start it, or %s", address, err, correct)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	stranger := func(what any) error {
		if err, ok := what.(error); ok && errors.Is(err, os.ErrDeadlineExceeded) {
			return silent
		}
		return fmt.Errorf("%s answers, but not as memcached does: %v: %s", address, what, correct)
	}
	if _, err := fmt.Fprint(conn, "stats settings\r\n"); err != nil {
		return stranger(err)
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 3 && fields[0] == "STAT":
			if fields[1] == "evictions" && fields[2] != "off" {
				return fmt.Errorf("memcached %s throws claims away when it is full: start it with -M, so that it refuses new ones instead", address)
			}
		case len(fields) == 1 && fields[0] == "END":
			return nil
		default:
			return stranger(fmt.Sprintf("%.60q", lines.Text()))
		}
	}
	if err := lines.Err(); err != nil {
		return stranger(err)
	}
	return stranger("it hung up")
}
