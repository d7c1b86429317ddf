package engines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The superuser, its password and the database.
const (
	postgresUser     = "manna"
	postgresPassword = "manna"
	postgresDatabase = "manna"
)

// DSN is the address of PostgreSQL with its credentials. Its user may make
// further databases.
func (d *Dir) DSN() string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", postgresUser, postgresPassword, d.Addr(Postgres), postgresDatabase)
}

func postgres() server {
	return server{
		name: Postgres,
		programs: []program{{name: "initdb of PostgreSQL", pkg: "postgresql", there: func(*Dir) bool {
			_, err := postgresProgram("initdb")
			return err == nil
		}}},
		prepare: preparePostgres,
		probe: func(ctx context.Context, d *Dir) error {
			psql, err := postgresProgram("psql")
			if err != nil {
				return err
			}
			out, err := exec.CommandContext(ctx, psql, "-XAtw", "-d", d.DSN(), "-c", "SELECT 1").CombinedOutput()
			if err == nil && strings.TrimSpace(string(out)) == "1" {
				return nil
			}
			return fmt.Errorf("psql: %v: %s", err, strings.TrimSpace(string(out)))
		},
		quit: syscall.SIGINT, // a fast shutdown: clients are cut off, the data is whole
	}
}

// postgresProgram finds a program of PostgreSQL: Debian keeps those of each
// version apart, outside of PATH.
func postgresProgram(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return exec.LookPath(name)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
}

// postgresAccount is who PostgreSQL runs as, since it refuses to run as root.
func postgresAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user for it: %w: run: useradd --system postgres", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &account{uid: uint32(uid), gid: uint32(gid)}, err
}

func preparePostgres(ctx context.Context, d *Dir) (command, error) {
	program, err := postgresProgram("postgres")
	if err != nil {
		return command{}, err
	}
	owner, err := postgresAccount()
	if err != nil {
		return command{}, err
	}
	data := d.file("data", Postgres)
	if _, err := os.Stat(filepath.Join(data, "cluster", "PG_VERSION")); err != nil {
		if err := makePostgresCluster(ctx, d, data, owner); err != nil {
			return command{}, err
		}
	}
	if err := dropStaleLock(filepath.Join(data, "cluster", "postmaster.pid")); err != nil {
		return command{}, err
	}
	return command{user: owner, path: program, args: []string{
		"-D", filepath.Join(data, "cluster"),
		"-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", d.ports[Postgres]),
		"-c", "unix_socket_directories=",
	}}, nil
}

// makePostgresCluster makes the data directory with its database. Half of one is
// never left where it would be taken for a whole one.
func makePostgresCluster(ctx context.Context, d *Dir, data string, owner *account) error {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	if owner != nil {
		if dir := closedTo(data); dir != "" {
			return fmt.Errorf("PostgreSQL runs as the user postgres, who may not enter %s: run: chmod o+x %s (or name another run directory with MANNA_RUN)", dir, dir)
		}
		if err := os.Chown(data, int(owner.uid), int(owner.gid)); err != nil {
			return err
		}
	}
	initdb, err := postgresProgram("initdb")
	if err != nil {
		return err
	}
	program, err := postgresProgram("postgres")
	if err != nil {
		return err
	}
	// The single-user mode makes the database before anybody can connect.
	script := fmt.Sprintf(`
		set -e
		rm -rf cluster.new
		echo %[3]s >password
		%[1]s -D cluster.new -U %[4]s --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C
		rm password
		echo 'CREATE DATABASE %[5]s' | %[2]s --single -D cluster.new postgres
		mv cluster.new cluster`,
		initdb, program, postgresPassword, postgresUser, postgresDatabase)
	out, err := os.Create(d.logFile("initdb"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = data, out, out
	cmd.SysProcAttr = owner.attributes()
	if err := cmd.Run(); err != nil {
		return d.withTail("initdb", fmt.Errorf("making a database in %s: %w", data, err))
	}
	return nil
}

// dropStaleLock removes the lock of a PostgreSQL that was killed, if its process
// is dead but still in the process table, because init has not looked or never
// looks, as in some containers. PostgreSQL takes such a process for a living one.
func dropStaleLock(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return fmt.Errorf("%s begins with %q, want a pid", path, first)
	}
	if st, err := readStat(pid); err == nil && st.state == "Z" {
		return os.Remove(path)
	}
	return nil
}

// closedTo returns the directory on the way to path that others may not enter, ""
// if there is none.
func closedTo(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil || st.Mode()&fs.FileMode(0o001) == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}
