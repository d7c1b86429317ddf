package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/internal/config"
	"manna/producer"
)

const (
	// ledgerWithin is how long a start waits for the ledger, so that who asks at once
	// finds it open.
	ledgerWithin = time.Second
	// feedWithin is how long a stop waits for the feeder.
	feedWithin = 3 * time.Second
	// changesWithin is how long a stop waits for what people change through the admin
	// port.
	changesWithin = 2 * time.Second
	// booksWithin is how long a stop waits for the archive and the ledger.
	booksWithin = 5 * time.Second
)

// Run serves until ctx ends and then stops in order, within the configured
// bound. It returns nil after a clean stop. A node runs once.
func (n *Node) Run(ctx context.Context) error {
	// What Run needs of the configuration only changes with a restart.
	c := n.opts.Config
	public, admin := n.servers(c.Limits)
	failed := make(chan error, 16) // more than there are parts, none of which waits to be heard
	outlives := context.WithoutCancel(ctx)
	// The parts, in the order in which they stop.
	front, lanes, feeding, work, books := newPart(outlives, failed), newPart(outlives, failed), newPart(outlives, failed), newPart(outlives, failed), newPart(outlives, failed)
	for _, p := range []*part{front, lanes, feeding, work, books} {
		defer p.cancel()
	}

	books.start("admin port", func(context.Context) error { return admin.Serve(n.admin) })
	if n.archiver != nil {
		books.start("archive", n.archiver.Run)
	}
	if n.member != nil {
		books.start("register", n.member.run)
	}
	n.awaitLedger(ctx, books)
	books.start("ledger", n.follower.Run)
	if n.consumer != nil {
		lanes.start("lanes", n.consumer.Run)
		watched, err := newAges(n.registry)
		if err != nil {
			return errors.Join(err, n.shut())
		}
		work.start("watch over the lanes", n.lanesSeen.run)
		work.start("ages", func(ctx context.Context) error { return n.watchAges(ctx, watched) })
	}
	if n.feeder != nil {
		feeding.start("feeder", n.feeder.Run)
	}
	work.start("watch over the ledger", n.ledgerSeen.run)
	if len(n.stores) > 0 {
		work.start("watch over memcached", n.watchStores)
	}
	if c.Clustered() {
		work.start("switches", n.watchSwitches)
	}
	if n.scheduler != nil {
		work.start("reconciler", n.schedule)
		if c.Clustered() {
			work.start("sweep", n.sweep)
		}
	}
	front.start("front", n.front.Run)
	if n.public != nil {
		front.start("public port", func(context.Context) error { return public.Serve(n.public) })
	}
	n.logger.Info("manna serves", "node", n.log.Node(), "roles", n.opts.Roles, "public", n.Public(), "admin", n.Admin(), "data", c.Data)

	var err error
	select {
	case <-ctx.Done():
		n.logger.Info("stopping: no new claims, calls under way end", "within", c.Shutdown)
	case <-n.log.Failed():
		err = n.log.Err()
	case err = <-failed:
	}
	began := time.Now()
	bound, cancel := context.WithTimeout(outlives, c.Shutdown)
	defer cancel()
	if e := public.Shutdown(bound); e != nil {
		public.Close()
	}
	front.stop(bound)
	if !lanes.stop(bound) {
		n.logger.Warn("calls were still under way at the end of the time to stop; they are in doubt and looked into after the next start")
	}
	n.feedRest(bound)
	feeding.stop(bound)
	work.stop(bound)
	if err == nil && n.member != nil {
		n.endChanges(bound)
		n.finishBooks(bound)
	}
	admin.Shutdown(bound)
	admin.Close()
	books.stop(bound)
	if err == nil && n.member != nil {
		n.member.leave(bound)
	}
	if e := n.shut(); err == nil {
		err = e
	}
	if err == nil {
		n.logger.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// awaitLedger opens the ledger where Run does that, and gives it a moment.
func (n *Node) awaitLedger(ctx context.Context, books *part) {
	if n.patient == nil {
		return
	}
	books.start("ledger", n.patient.Open)
	select {
	case <-n.patient.Opened():
	case <-time.After(ledgerWithin):
	case <-ctx.Done():
	}
}

// schedule runs the reconciler. Before the lanes that are served here are open
// nothing can be said of what is in flight.
func (n *Node) schedule(ctx context.Context) error {
	if n.consumer != nil {
		select {
		case <-n.consumer.Opened():
		case <-ctx.Done():
			return nil
		}
	}
	return n.scheduler.Run(ctx)
}

// feedRest lets the feeder bring the queue what was claimed here, for who knows when
// this node comes back. A queue that is away is not waited for long.
func (n *Node) feedRest(ctx context.Context) {
	if n.feeder == nil || n.front.Newest() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, feedWithin)
	defer cancel()
	if err := n.feeder.Wait(ctx, n.front.Newest()); err != nil {
		n.logger.Warn("the queue does not have all that was claimed here; the next start of this node brings it there", "behind", n.feeder.Behind())
	}
}

// endChanges lets the log come to its end, as far as people write it: what came after the
// last seal would be missing from what other nodes read.
func (n *Node) endChanges(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, changesWithin)
	defer cancel()
	n.console.EndChanges(ctx)
}

// finishBooks brings what the log has to where other nodes read it, as far as that
// goes within booksWithin.
func (n *Node) finishBooks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, booksWithin)
	defer cancel()
	if _, err := n.log.Seal(ctx); err != nil {
		n.logger.Warn("the log could not be sealed on the way out; the next start does it", "err", err)
		return
	}
	if n.archiver != nil {
		if err := n.archiver.Wait(ctx); err != nil {
			n.logger.Warn("the archive lacks what was sealed last; the next start brings it there", "segments", n.archiver.Behind())
		}
	}
	if err := n.follower.Wait(ctx, n.log.End()); err != nil {
		n.logger.Warn("the ledger lacks the end of the log; the next start brings it there", "err", err)
	}
}

// Reload puts another configuration in force, whole or not at all. Claims and
// calls under way keep what they began with.
func (n *Node) Reload(c *config.Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	changes := config.Diff(n.config, c)
	if len(changes.Restart) > 0 {
		return fmt.Errorf("nothing was changed: %s: only a restart brings these into effect", nameList(changes.Restart))
	}
	snapshot, err := producer.NewSnapshot(c.Campaigns)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	auth, err := n.auth(c)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	list, err := n.partners(c)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	adopt := func() error { return n.adopt(c, list) }
	if n.consumer == nil {
		err = adopt()
	} else {
		// Brokers may refuse a new partner's lane.
		err = n.consumer.ReloadWith(list, adopt)
	}
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if auth != nil {
		n.front.ReloadAuth(auth)
	}
	n.front.Reload(snapshot)
	n.config = c
	n.logger.Info("configuration reloaded", "file", c.File, "changed", changes.Live)
	return nil
}
