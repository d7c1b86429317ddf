package memcache

import (
	"bufio"
	"context"
	"fmt"
	"net"
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
			found[i] = check(ctx, s.address)
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
func check(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("memcached %s cannot be reached: %w: start it, or correct its address; claims go on without it", address, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	stranger := func(what any) error {
		return fmt.Errorf("%s answers, but not as memcached does: %v: correct the address; claims go on without it", address, what)
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
