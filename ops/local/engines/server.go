package engines

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// The servers, in the order in which they are started.
const (
	NameServer = "nameserver"
	Broker     = "broker"
	Memcached  = "memcached"
	Postgres   = "postgres"
	S3         = "s3"
)

// A server says how one of them is had, started and asked.
type server struct {
	name string
	// needs names the server that has to answer before this one can.
	needs string
	// programs are what Debian's packages have to provide.
	programs []program
	// install gets what no package has. It is quick when that is there; nil when
	// there is nothing.
	install func(context.Context, *Dir) error
	// prepare writes the server's settings, makes its data directory unless it has
	// one, and returns the command that runs the server in the foreground.
	prepare func(context.Context, *Dir) (command, error)
	// probe returns nil if the server does its work.
	probe func(context.Context, *Dir) error
	// quit is the signal that asks for an end in order.
	quit syscall.Signal
}

func servers() []server {
	return []server{nameServer(), broker(), memcached(), postgres(), s3()}
}

// Names lists the servers in the order in which they are started.
func Names() []string {
	var names []string
	for _, s := range servers() {
		names = append(names, s.name)
	}
	return names
}

// pick returns the named servers in the order of starting, all if none is named.
func pick(names []string) ([]server, error) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("there is no server %q: the servers are %s", name, strings.Join(Names(), ", "))
		}
	}
	return slices.DeleteFunc(servers(), func(s server) bool {
		return len(names) > 0 && !slices.Contains(names, s.name)
	}), nil
}

// withNeeds adds to names what the named servers need.
func withNeeds(names []string) []string {
	all := slices.Clone(names)
	for _, s := range servers() {
		if s.needs != "" && slices.Contains(all, s.name) && !slices.Contains(all, s.needs) {
			all = append(all, s.needs)
		}
	}
	return all
}
