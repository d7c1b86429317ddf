// Command bench measures Manna beside others, in one run on one machine:
//
//	go -C bench run . NAME [flags]
//
// Without a name it lists what there is. Exit status: 0 measured, 1 it could not
// be measured, or the sums did not add up, 2 usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"
)

// bench is one thing that can be measured.
type bench struct {
	name, what string
	run        func(ctx context.Context, o *options) (*result, error)
}

var benches = [...]bench{
	{"claim-http", "durable claims over HTTP, beside a bare net/http handler of the same JSON", claimHTTP},
	{"claim", "durable claims in process, beside the disk's own write and fdatasync", claim},
	{"lane", "how much of a partner's rate a lane with a backlog uses, and what its door sees", lane},
	{"rocketmq", "orders from the log to the broker and out of it, beside a bare client; needs ops/local/up", rocketMQ},
	{"guard", "claims reserved in memcached, beside bare Add; needs ops/local/up", guard},
	{"claim-engines", "the front's processor time per claim on all engines, beside the embedded server's; needs ops/local/up", claimEngines},
	{"build", "time of a build from an empty cache and size of the binary, beside the budget", build},
}

// options are the flags; not every bench heeds each.
type options struct {
	json        bool
	dir         string        // where the temporary directory is made
	connections int           // claim-http, claim-engines
	with        string        // claim-http: YAML that is added to the configuration
	linger      time.Duration // claim
	claimants   int           // claim
	engines     string        // rocketmq, guard, claim-engines: the file that names the servers
	messages    int           // rocketmq: in a round of each subject
	rounds      int           // for each subject
	round       time.Duration // length of one
	profile     string        // file for a processor profile of this process; "" for none
	out         io.Writer     // what is told while it runs
	temp        string        // the temporary directory
}

// errUsage: the command line is wrong, and that has been said.
var errUsage = errors.New("usage")

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareChild {
		serveBare()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.json, "json", false, "print one JSON document instead of text")
	flags.StringVar(&o.dir, "dir", "/var/tmp", "`directory` on the disk to measure on")
	flags.IntVar(&o.connections, "connections", 128, "claim-http, claim-engines: connections of the load generator")
	flags.StringVar(&o.with, "with", "", "claim-http: `YAML` added to the server's configuration, like 'log: {linger: 2ms}'")
	flags.DurationVar(&o.linger, "linger", 500*time.Microsecond, "claim: the log's linger; that is also the server's default")
	flags.IntVar(&o.claimants, "claimants", 2048, "claim: claims under way at a time")
	flags.StringVar(&o.engines, "engines", "../ops/local/run/engines.yaml", "rocketmq, guard, claim-engines: `file` with the sections queue, guard, ledger and archive")
	flags.IntVar(&o.messages, "messages", 300_000, "rocketmq: messages in a round")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of each subject")
	flags.DurationVar(&o.round, "round", 3*time.Second, "length of a round")
	flags.StringVar(&o.profile, "cpuprofile", "", "`file` for a processor profile of the bench's own process")
	flags.Usage = func() {
		list(flags.Output())
		fmt.Fprintln(flags.Output(), "\nFlags:")
		flags.PrintDefaults()
	}
	var name string
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil
		} else if err != nil {
			return errUsage
		}
		if args = flags.Args(); len(args) > 0 {
			if name != "" {
				return usage("one bench at a time: %q and %q", name, args[0])
			}
			name, args = args[0], args[1:]
		}
	}
	if name == "" {
		list(os.Stdout)
		return nil
	}
	if o.connections < 1 || o.claimants < 1 || o.rounds < 1 || o.round <= 0 {
		return usage("connections, claimants, rounds and the length of a round are above 0")
	}
	for _, b := range benches {
		if b.name == name {
			return measure(ctx, b, &o)
		}
	}
	return usage("there is no bench %q", name)
}

func usage(format string, args ...any) error {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	list(os.Stderr)
	return errUsage
}

func list(w io.Writer) {
	fmt.Fprintln(w, "go -C bench run . NAME [--json]; NAME is one of")
	for _, b := range benches {
		fmt.Fprintf(w, "  %-15s%s\n", b.name, b.what)
	}
}

// measure runs one bench in a temporary directory and prints its result.
func measure(ctx context.Context, b bench, o *options) (err error) {
	if o.out = os.Stdout; o.json {
		o.out = os.Stderr
	}
	if o.temp, err = os.MkdirTemp(o.dir, "manna-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.temp)) }()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	m := watchMachine()
	r, err := b.run(ctx, o)
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	m.report(r)
	r.Bench, r.Subject = b.name, "manna"
	return r.print(os.Stdout, o.json)
}
