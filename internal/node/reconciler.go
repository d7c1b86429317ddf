package node

import (
	"context"
	"errors"
	"path/filepath"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/gift"
	"manna/internal/config"
	"manna/ledger"
	"manna/queue"
	"manna/reconcile"
)

func (n *Node) openReconciler(_ context.Context, c *config.Config) error {
	if !n.has(RoleReconcile) {
		return nil
	}
	o := reconcile.Options{
		Log: n.log, Queue: n.queue, Lanes: n.lanes, Runs: n.ledger, Dir: filepath.Join(c.Data, "reports"),
		BacklogUnder: c.Reconcile.BacklogUnder, Logger: n.logger, Metrics: n.registry,
	}
	if n.broker != nil {
		o.Fed = n.feederName()
	}
	if c.Clustered() {
		o.Weigh = n.shared.Weigh
		if err := n.openOthers(&o); err != nil {
			return err
		}
	}
	var err error
	if n.reconcile, err = reconcile.New(o); err != nil {
		return err
	}
	n.scheduler, err = reconcile.NewScheduler(n.reconcile, c.Reconcile.Cron)
	return err
}

// openOthers gives the reconciler the other nodes' logs.
func (n *Node) openOthers(o *reconcile.Options) error {
	if n.bucket == nil {
		o.Others = n.unarchived
		return nil
	}
	var err error
	if n.archive, err = openArchive(n.bucket, n.config); err != nil {
		return err
	}
	n.opened(n.archive.Close)
	o.Others = reconcile.Archived(n.archive, n.shared, n.log.Node())
	return nil
}

// openArchive opens the archive for reading. One process of a data directory has it open.
func openArchive(b bucket.Bucket, c *config.Config) (*fallbacklog.Archive, error) {
	return fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: b, Cache: filepath.Join(c.Data, "archive-cache")})
}

// errNoArchive: only a node's own log can be read where it is.
var errNoArchive = errors.New("there is no archive that its log could be read from")

// unarchived names the nodes whose logs nobody but themselves can read.
func (n *Node) unarchived(ctx context.Context) (sources []reconcile.Source, err error) {
	nodes, _, err := n.shared.Nodes(ctx)
	for _, node := range nodes {
		if node.Name != n.log.Node() && node.State != ledger.NodeRetired {
			sources = append(sources, reconcile.Source{Node: node.Name, Err: errNoArchive, Remedy: "give all nodes one archive: {url: …}"})
		}
	}
	return sources, err
}

// runReconcile makes a run by hand.
func (n *Node) runReconcile(ctx context.Context, q reconcile.Request) (*reconcile.Report, error) {
	if n.reconcile == nil {
		return nil, gift.Errorf(gift.BadRequest, "node %s does not reconcile: ask one with the role %s", n.log.Node(), RoleReconcile)
	}
	return n.reconcile.Run(ctx, q)
}

// lanes are what the reconciler asks for watermarks: those that are served here or,
// where brokers have them, those of all nodes.
func (n *Node) lanes() map[string]reconcile.Lane {
	lanes := make(map[string]reconcile.Lane)
	if n.broker == nil {
		for partner, source := range n.consumer.Sources() {
			lanes[partner] = source
		}
		return lanes
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.config.Partners {
		lanes[p.Name] = laneFunc(func(ctx context.Context) (queue.Status, error) { return n.broker.Status(ctx, p.Name) })
	}
	return lanes
}

type laneFunc func(ctx context.Context) (queue.Status, error)

func (f laneFunc) Status(ctx context.Context) (queue.Status, error) { return f(ctx) }
