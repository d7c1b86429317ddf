package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"manna/internal/config"
	"manna/producer"
)

// ledgerWithin is how long a start waits for the ledger, so that who asks at once
// finds it open.
const ledgerWithin = time.Second

// Run serves until ctx ends and then stops in order, within the configured
// bound. It returns nil after a clean stop. A node runs once.
func (n *Node) Run(ctx context.Context) error {
	// What Run needs of the configuration only changes with a restart.
	c := n.opts.Config
	public, admin := n.servers(c.Limits)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	lanes, stopLanes := context.WithCancel(work)
	defer stopLanes()

	failed := make(chan error, 8) // one for each part, none of which waits to be heard
	var running sync.WaitGroup
	start := func(name string, do func() error) {
		running.Go(func() {
			if err := do(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("admin port", func() error { return admin.Serve(n.admin) })
	if n.archiver != nil {
		start("archive", func() error { return n.archiver.Run(work) })
	}
	start("ledger", func() error { return n.ledger.Open(work) })
	select {
	case <-n.ledger.Opened():
	case <-time.After(ledgerWithin):
	case <-ctx.Done():
	}
	start("ledger", func() error { return n.follower.Run(work) })
	var delivering sync.WaitGroup
	delivering.Go(func() {
		if err := n.consumer.Run(lanes); err != nil {
			failed <- fmt.Errorf("lanes: %w", err)
		}
	})
	watched, err := newAges(n.registry)
	if err != nil {
		return errors.Join(err, n.shut())
	}
	start("ages", func() error { return n.watchAges(work, watched) })
	start("reconciler", func() error {
		// Before the lanes are open nothing can be said of what is in flight.
		select {
		case <-n.consumer.Opened():
			return n.scheduler.Run(work)
		case <-work.Done():
			return nil
		}
	})
	start("public port", func() error { return public.Serve(n.public) })
	n.logger.Info("manna serves", "node", n.log.Node(), "public", n.Public(), "admin", n.Admin(), "data", c.Data)

	select {
	case <-ctx.Done():
		n.logger.Info("stopping: no new claims, calls under way end", "within", c.Shutdown)
	case <-n.log.Failed():
		err = n.log.Err()
	case err = <-failed:
	}
	began := time.Now()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Shutdown)
	defer cancel()
	if e := public.Shutdown(bound); e != nil {
		public.Close()
	}
	stopLanes()
	if !within(bound, &delivering) {
		n.logger.Warn("calls were still under way at the end of the time to stop; they are in doubt and looked into after the next start")
	}
	stopWork()
	admin.Shutdown(bound)
	admin.Close()
	within(bound, &running)
	if e := n.shut(); err == nil {
		err = e
	}
	if err == nil {
		n.logger.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// within waits for a group until ctx ends.
func within(ctx context.Context, g *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() {
		g.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Reload puts another configuration in force, whole or not at all. Claims and
// calls under way keep what they began with.
func (n *Node) Reload(c *config.Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	changes := config.Diff(n.config, c)
	if len(changes.Restart) > 0 {
		return fmt.Errorf("nothing was changed: %s take effect only after a restart", nameList(changes.Restart))
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
	// Everything has been checked: from here on only a closed node fails.
	if err := n.adopt(c, list); err != nil {
		return err
	}
	if err := n.consumer.Reload(list); err != nil {
		return err
	}
	if auth != nil {
		n.front.ReloadAuth(auth)
	}
	n.front.Reload(snapshot)
	n.config = c
	n.logger.Info("configuration reloaded", "file", c.File, "changed", changes.Live)
	return nil
}
