package node

import (
	"context"

	"manna/consumer"
	"manna/consumer/quota"
	"manna/consumer/quota/memcached"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/memcache"
)

// openLanes makes the consumer, and the breakers of all partners.
func (n *Node) openLanes(_ context.Context, c *config.Config) error {
	list, err := n.partners(c)
	if err != nil {
		return err
	}
	if err := n.adopt(c, list); err != nil {
		return err
	}
	if !n.has(RoleLanes) {
		return nil
	}
	o := consumer.Options{Log: n.log, Queue: n.queue, Partners: list, Logger: n.logger, Metrics: n.registry}
	if c.Guard.Engine == config.Memcached {
		// quota's pauses count on a sick server being tried again that soon.
		client, err := n.client(c, memcache.Options{Name: "quota", OpenFor: quota.Ask})
		if err != nil {
			return err
		}
		means := "the lanes whose rates it shares out use their standby share"
		if c.Guard.Standby == 0 {
			means = "the lanes whose rates it shares out pause"
		}
		n.stores = append(n.stores, &store{client: client, name: "quota", means: means})
		o.Quota = &consumer.Quota{Centre: memcached.New(client, c.Guard.Prefix), Standby: c.Guard.Standby, Instances: n.instances}
		if n.member != nil {
			o.Quota.Now = n.member.clock.now
		}
	}
	if c.Clustered() {
		o.Cluster = &consumer.Cluster{Marks: n.shared, Choices: n.shared, Varies: n.varies, Outcomes: n.shared, Stock: n.shared, Holder: n.member.Holder}
	} else {
		o.Returned = n.front.Returned
	}
	n.consumer, err = consumer.New(o)
	return err
}

// varies reports whether another front may have recorded a claim with other orders. A
// campaign that is not known any more may have had anything.
func (n *Node) varies(claim *gift.Claim) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.config.Campaigns {
		if k.Name == claim.Campaign {
			return k.Varies()
		}
	}
	return true
}

// instances is how many nodes serve lanes.
func (n *Node) instances() int {
	if n.member == nil {
		return 1
	}
	return n.member.with(string(RoleLanes))
}
