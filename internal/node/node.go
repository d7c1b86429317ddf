package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"manna/breaker"
	"manna/console"
	"manna/consumer"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
	"manna/internal/notice"
	"manna/ledger"
	"manna/ledger/sqlite"
	"manna/producer"
	"manna/queue"
	"manna/queue/embedded"
	"manna/reconcile"
)

// Options say what to run.
type Options struct {
	Config  *config.Config
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
	archiver  *fallbacklog.Archiver // nil where there is no archive
	breakers  breaker.Set
	queue     queue.Queue
	ledger    *ledger.Patient
	follower  *ledger.Follower
	front     *producer.Front
	consumer  *consumer.Consumer
	reconcile *reconcile.Reconciler
	scheduler *reconcile.Scheduler
	console   *console.Console

	public, admin net.Listener
	close         []func() error // in the order in which rooms were opened
}

// Open opens every room. Where one fails, those before it are closed again.
func Open(ctx context.Context, opts Options) (*Node, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Logger = slog.New(notice.Handler(opts.Logger.Handler()))
	n := &Node{opts: opts, logger: opts.Logger, registry: prometheus.NewRegistry(), config: opts.Config}
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
	if n.public == nil {
		if err := n.listen(publicAddr, adminAddr); err != nil {
			return err
		}
	}

	if c.Archive != "" {
		dir, err := archiveDir(c.Archive)
		if err != nil {
			return err
		}
		if n.archiver, err = fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: n.log, Dir: dir, Logger: n.logger, Metrics: n.registry}); err != nil {
			return err
		}
	}
	n.ledger = ledger.NewPatient(func(ctx context.Context) (ledger.Ledger, error) {
		return sqlite.Open(ctx, sqlite.Options{Dir: filepath.Join(c.Data, "ledger"), Node: c.Node, Logger: n.logger})
	}, n.logger)
	n.opened(n.ledger.Close)
	if n.follower, err = ledger.NewFollower(ledger.FollowerOptions{Log: n.log, Store: n.ledger, Logger: n.logger, Metrics: n.registry}); err != nil {
		return err
	}
	engine, err := embedded.Open(ctx, embedded.Options{Log: n.log, Dir: filepath.Join(c.Data, "lanes"), Logger: n.logger, Metrics: n.registry})
	if err != nil {
		return err
	}
	n.queue = engine
	n.opened(func() error { return engine.Close(context.WithoutCancel(ctx)) })
	if err := n.openFront(ctx, c); err != nil {
		return err
	}
	if err := n.openLanes(c); err != nil {
		return err
	}
	if err := n.openReconciler(c); err != nil {
		return err
	}
	token, err := secret(disk.OS{}, c.Data, TokenFile)
	if err != nil {
		return err
	}
	n.console = console.New(console.Options{
		Log: n.log, Front: n.front, Consumer: n.consumer, Queue: n.queue, Breakers: &n.breakers, Ledger: n.ledger,
		Reconcile: n.reconcile.Run, Campaigns: n.campaigns, NotReady: n.notReady, Metrics: n.registry, Token: token, Version: n.opts.Version, Logger: n.logger,
	})
	return nil
}

func (n *Node) openFront(ctx context.Context, c *config.Config) error {
	snapshot, err := producer.NewSnapshot(c.Campaigns)
	if err != nil {
		return err
	}
	auth, err := n.auth(c)
	if err != nil {
		return err
	}
	text, err := secret(disk.OS{}, c.Data, receiptFile)
	if err != nil {
		return err
	}
	key, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	n.front, err = producer.NewFront(ctx, producer.Options{
		Log: n.log, Snapshot: snapshot, Auth: auth, Dev: n.opts.Dev, Users: userIndex{n.ledger}, Queue: n.queue, ReceiptKey: key,
		Limits: producer.Limits{InFlight: c.Limits.MaxInFlightClaims, Body: c.Limits.MaxBody, BatchBody: c.Limits.MaxBatchBody},
		Logger: n.logger, Metrics: n.registry,
	})
	return err
}

func (n *Node) openLanes(c *config.Config) error {
	list, err := n.partners(c)
	if err != nil {
		return err
	}
	if err := n.adopt(c, list); err != nil {
		return err
	}
	n.consumer, err = consumer.New(consumer.Options{
		Log: n.log, Queue: n.queue, Partners: list, Logger: n.logger, Metrics: n.registry,
		Returned: n.front.Returned,
	})
	return err
}

func (n *Node) openReconciler(c *config.Config) (err error) {
	n.reconcile, err = reconcile.New(reconcile.Options{
		Log: n.log, Queue: n.queue, Lanes: n.lanes, Runs: n.ledger, Dir: filepath.Join(c.Data, "reports"),
		BacklogUnder: c.Reconcile.BacklogUnder, Logger: n.logger, Metrics: n.registry,
	})
	if err != nil {
		return err
	}
	n.scheduler, err = reconcile.NewScheduler(n.reconcile, c.Reconcile.Cron)
	return err
}

func (n *Node) auth(c *config.Config) (*producer.Auth, error) {
	if c.Auth.JWT == nil && len(c.Auth.Callers) == 0 {
		if n.opts.Dev {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: auth is missing, so nobody could claim: add `auth: {jwt: …}` or `auth: {callers: …}`, or try things out with `manna serve --dev`", c.File)
	}
	o := producer.AuthOptions{Callers: make(map[string]string)}
	if j := c.Auth.JWT; j != nil {
		keys, err := os.ReadFile(j.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.key_file: %w", err)
		}
		o.JWT = &producer.JWTOptions{Algorithms: j.Algorithms, Keys: keys, Issuer: j.Issuer, Audience: j.Audience, Leeway: j.Leeway}
	}
	for _, caller := range c.Auth.Callers {
		o.Callers[caller.Name] = string(caller.Secret)
	}
	return producer.NewAuth(o)
}

// addresses are those to listen on. Without authentication only loopback will do.
func (n *Node) addresses() (public, admin string, err error) {
	public, admin = n.config.Listen.Public, n.config.Listen.Admin
	if !n.opts.Dev {
		return public, admin, nil
	}
	for key, address := range map[string]*string{"listen.public": &public, "listen.admin": &admin} {
		host, port, err := net.SplitHostPort(*address)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", key, err)
		}
		if host == "" {
			*address = net.JoinHostPort("127.0.0.1", port)
			continue
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", "", fmt.Errorf("%s: --dev asks nobody who they are, so it listens on loopback only, and %s is not: write %s, or configure auth and leave --dev out", key, *address, net.JoinHostPort("127.0.0.1", port))
		}
	}
	return public, admin, nil
}

// lanes are what the reconciler asks for watermarks.
func (n *Node) lanes() map[string]reconcile.Lane {
	lanes := make(map[string]reconcile.Lane)
	for partner, source := range n.consumer.Sources() {
		lanes[partner] = source
	}
	return lanes
}

// listen opens both ports.
func (n *Node) listen(public, admin string) (err error) {
	if n.public, err = listen(public, "listen.public"); err != nil {
		return err
	}
	n.opened(n.public.Close)
	if n.admin, err = listen(admin, "listen.admin"); err != nil {
		return err
	}
	n.opened(n.admin.Close)
	return nil
}

func listen(address, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: set %s to a free address, or stop who has this one", key, err, key)
	}
	return l, nil
}

// archiveDir is the directory that an archive's url names.
func archiveDir(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" {
		return "", fmt.Errorf("archive.url: %q is no file:/// url", address)
	}
	return u.Path, nil
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

// Public and Admin are the addresses the node listens on.
func (n *Node) Public() string { return n.public.Addr().String() }

// Admin is the address of the admin port.
func (n *Node) Admin() string { return n.admin.Addr().String() }

// minFree is the room on the log's disk below which a node is not ready: about
// what the log allocates at a time.
const minFree = 8 << 20

// notReady names what keeps the node from doing its job.
func (n *Node) notReady(ctx context.Context) []string {
	missing := []string{}
	if err := n.front.Ready(); err != nil {
		missing = append(missing, "claims: "+err.Error())
	}
	if free, err := n.log.Free(); err != nil {
		missing = append(missing, "log: "+err.Error())
	} else if free < minFree {
		missing = append(missing, fmt.Sprintf("log: its disk is full: %d bytes are left", free))
	}
	if err := n.ledger.Ping(ctx); err != nil {
		missing = append(missing, err.Error()) // it names the ledger
	} else if err := n.follower.Err(); err != nil {
		missing = append(missing, "ledger: cannot follow the log: "+err.Error())
	}
	select {
	case <-n.consumer.Opened():
	default:
		return append(missing, "lanes: not open yet")
	}
	for _, lane := range n.consumer.Lanes(ctx) {
		if lane.Problem != "" {
			missing = append(missing, "lane "+lane.Partner+": "+lane.Problem)
		}
	}
	return missing
}

func (n *Node) campaigns() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.config.Campaigns {
		names = append(names, k.Name)
	}
	return names
}

// userIndex finds a user's claims in the ledger.
type userIndex struct{ ledger ledger.Claims }

func (u userIndex) UserClaims(ctx context.Context, user string, limit int) ([]gift.ClaimID, time.Time, error) {
	rows, asOf, _, err := u.ledger.UserClaims(ctx, user, ledger.Cursor{}, limit)
	if err == nil && asOf.IsZero() {
		err = errors.New("the ledger has taken nothing in yet")
	}
	ids := make([]gift.ClaimID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids, asOf, err
}

// servers are the two HTTP servers.
func (n *Node) servers(l config.Limits) (public, admin *http.Server) {
	errors := slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug)
	public = &http.Server{
		Handler: n.front.Handler(), ReadHeaderTimeout: l.ReadTimeout, ReadTimeout: l.ReadTimeout, WriteTimeout: l.WriteTimeout,
		IdleTimeout: l.IdleTimeout, MaxHeaderBytes: 32 << 10, ErrorLog: errors,
	}
	// A reconciliation answers when it is done, which may take minutes.
	admin = &http.Server{Handler: n.console.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: errors}
	return public, admin
}

func nameList(names []string) string { return strings.Join(names, ", ") }
