package engines

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func memcached() server {
	return server{
		name:     Memcached,
		programs: []program{{name: "memcached", pkg: "memcached", there: onPath("memcached")}},
		prepare: func(_ context.Context, d *Dir) (command, error) {
			path, err := exec.LookPath("memcached")
			args := []string{
				"-l", "127.0.0.1", "-p", fmt.Sprint(d.ports[Memcached]), "-U", "0",
				// Full, it refuses; it does not throw claims away to make room.
				"-M", "-m", "64", "-c", "4096",
			}
			if os.Geteuid() == 0 {
				args = append(args, "-u", "nobody")
			}
			return command{path: path, args: args}, err
		},
		probe: probeMemcached,
		quit:  syscall.SIGTERM,
	}
}

func probeMemcached(ctx context.Context, d *Dir) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Addr(Memcached))
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(conn, "version\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "VERSION ") {
		err = fmt.Errorf("it answers %q to version", line)
	}
	return err
}
