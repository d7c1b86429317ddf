package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"manna/breaker"
	"manna/console"
	"manna/consumer"
	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/notice"
	"manna/ledger"
	"manna/producer"
	"manna/queue"
	"manna/queue/rocketmq"
	"manna/reconcile"
)

// Options say what to run.
type Options struct {
	Config *config.Config
	// Roles are what this node does; empty means all. Nodes with fewer share a queue
	// with others.
	Roles   []Role
	Dev     bool // nobody is asked who they are; loopback only
	Version string
	Logger  *slog.Logger
}

// Node is one running node.
type Node struct {
	opts     Options
	logger   *slog.Logger
	registry *prometheus.Registry

	mu     sync.Mutex // guards config
	config *config.Config

	log       *fallbacklog.Log
	bucket    bucket.Bucket         // nil where there is no archive
	archiver  *fallbacklog.Archiver // nil where there is no archive
	archive   *fallbacklog.Archive  // the other nodes' logs; nil where nothing here reads them all the time
	reading   chan struct{}         // holds one while the archive is read without that
	breakers  breaker.Set
	stores    []*store // whose trouble is this node's
	ledger    ledger.Ledger
	patient   *ledger.Patient // the ledger, where Run opens it; nil else
	shared    ledger.Cluster  // the ledger, where other nodes may have it too; nil else
	member    *member         // nil where the ledger is this node's own
	follower  *ledger.Follower
	queue     queue.Queue
	broker    *rocketmq.Queue // the queue, where brokers have it; nil else
	sending   *breaker.Breaker
	feeder    *producer.Feeder // nil where the lanes follow the log themselves
	front     *producer.Front
	consumer  *consumer.Consumer // nil without the role
	reconcile *reconcile.Reconciler
	scheduler *reconcile.Scheduler // nil without the role
	switches  *console.Switches
	console   *console.Console

	ledgerSeen, lanesSeen *watched // lanesSeen is nil without the role

	public, admin net.Listener   // public is nil without the role
	close         []func() error // in the order in which rooms were opened
}

// has reports whether the node has a role.
func (n *Node) has(r Role) bool { return slices.Contains(n.opts.Roles, r) }

// Open opens every room. Where one fails, those before it are closed again.
func Open(ctx context.Context, opts Options) (*Node, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Logger = slog.New(notice.Handler(opts.Logger.Handler()))
	if len(opts.Roles) == 0 {
		opts.Roles = AllRoles()
	}
	if len(opts.Roles) < len(AllRoles()) && !opts.Config.Clustered() {
		return nil, fmt.Errorf("roles: a node that does not do all of %s shares a queue with others that do the rest: set queue: {engine: rocketmq, …}, guard: {engine: memcached, …} and ledger: {engine: postgres, …}", nameList(names(AllRoles())))
	}
	n := &Node{opts: opts, logger: opts.Logger, registry: prometheus.NewRegistry(), config: opts.Config, reading: make(chan struct{}, 1)}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.shut())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	c := n.config
	publicAddr, adminAddr, err := n.addresses()
	if err != nil {
		return err
	}
	// A port that is taken leaves no new data directory behind. One that is there
	// comes first: who else owns it tells more than who has the port.
	if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
		if err := n.listen(publicAddr, adminAddr); err != nil {
			return err
		}
	}
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &n.breakers)
	reached, err := Reached(filepath.Join(c.Data, "log"))
	if err != nil {
		return err
	}
	if n.log, err = fallbacklog.Open(fallbacklog.Options{
		Reached: reached,
		Dir:     filepath.Join(c.Data, "log"), Node: c.Node, SegmentBytes: c.Log.SegmentBytes, SegmentAge: c.Log.SegmentAge,
		Linger: c.Log.Linger, Logger: n.logger, Metrics: n.registry,
	}); err != nil {
		if _, unusable := errors.AsType[*fs.PathError](err); unusable {
			err = fmt.Errorf("%w: `data` in %s has to name a directory that this process can write to and that has room", err, c.File)
		}
		return err
	}
	n.opened(n.log.Close)
	if n.admin == nil {
		if err := n.listen(publicAddr, adminAddr); err != nil {
			return err
		}
	}

	for _, open := range []func(context.Context, *config.Config) error{n.openArchive, n.openLedger, n.openQueue, n.openFront, n.openLanes, n.openReconciler} {
		if err := open(ctx, c); err != nil {
			return err
		}
	}
	n.ledgerSeen = newWatched("ledger", lookEvery, n.behind)
	switch {
	case n.consumer != nil && n.broker != nil:
		n.lanesSeen = newWatched("lanes", askEvery, n.stuck)
	case n.consumer != nil:
		n.lanesSeen = newWatched("lanes", lookEvery, n.stuck)
	}
	n.measure()
	token, err := secret(disk.OS{}, c.Data, TokenFile)
	if err != nil {
		return err
	}
	n.switches = console.NewSwitches(n.log, nil)
	o := console.Options{
		Log: n.log, Front: n.front, Consumer: n.consumer, Queue: n.queue, Breakers: &n.breakers, Switches: n.switches, Ledger: n.ledger,
		Reconcile: n.runReconcile, Campaigns: n.campaigns, NotReady: n.notReady, Notes: n.notes, Metrics: n.registry, Token: token, Version: n.opts.Version, Logger: n.logger,
	}
	if n.shared != nil {
		o.Cluster, o.Logs = n.shared, n.archived
	}
	n.console = console.New(o)
	return nil
}

func (n *Node) opened(close func() error) { n.close = append(n.close, close) }

// shut closes what is open, the last opened first.
func (n *Node) shut() error {
	var errs []error
	for len(n.close) > 0 {
		last := len(n.close) - 1
		if err := n.close[last](); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		n.close = n.close[:last]
	}
	return errors.Join(errs...)
}

func nameList(names []string) string { return strings.Join(names, ", ") }

func (n *Node) campaigns() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.config.Campaigns {
		names = append(names, k.Name)
	}
	return names
}
