package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"manna/breaker"
)

// minFree is the room on the log's disk below which a node is not ready: about
// what the log allocates at a time.
const minFree = 8 << 20

// notReady names what keeps the node from doing its job, and waits for nobody. A node
// of a cluster is taken out of the way of claims by it, so only what keeps it from
// accepting them counts there: every node has the same ledger and the same queue.
func (n *Node) notReady(context.Context) []string {
	missing := []string{}
	if err := n.front.Ready(); err != nil {
		missing = append(missing, "claims: "+err.Error())
	}
	if free, err := n.log.Free(); err != nil {
		missing = append(missing, "log: "+err.Error())
	} else if free < minFree {
		missing = append(missing, fmt.Sprintf("log: its disk is full: %d bytes are left", free))
	}
	if n.shared == nil {
		missing = append(missing, n.ledgerSeen.now()...)
	}
	if n.broker == nil {
		missing = append(missing, n.lanesSeen.now()...)
	}
	return missing
}

// notes are what is worse than it should be while the node does its job.
func (n *Node) notes(context.Context) []string {
	notes := n.front.Notes()
	if n.shared != nil {
		notes = append(notes, n.ledgerSeen.now()...)
		if err := n.member.trouble(); err != nil {
			notes = append(notes, "register: "+err.Error())
		}
		if note := n.member.clock.note(); note != "" {
			notes = append(notes, note)
		}
		if n.has(RoleReconcile) {
			notes = append(notes, n.member.silent()...)
		}
	}
	if n.broker != nil {
		if s := n.sending.Snapshot(); s.State != breaker.Closed {
			waits := "orders that come back wait here"
			if n.has(RoleFront) {
				waits = "claims are accepted and wait in the log"
			}
			notes = append(notes, fmt.Sprintf("queue: its breaker is %s, mode %s: %s", s.State, s.Mode, waits))
		}
		if behind := n.feeder.Behind(); behind > maxFeedLag {
			notes = append(notes, fmt.Sprintf("queue: the oldest claim that it does not have was made %s ago", behind.Round(time.Second)))
		}
		notes = append(notes, n.lanesSeen.now()...)
	}
	for _, s := range n.stores {
		if note := s.note(); note != "" {
			notes = append(notes, note)
		}
	}
	if n.consumer != nil {
		waiting := n.consumer.Waiting()
		for _, lane := range slices.Sorted(maps.Keys(waiting)) {
			notes = append(notes, "lane "+lane+": orders wait for the ledger: "+waiting[lane])
		}
	}
	if n.archiver != nil {
		if behind := n.archiver.Behind(); behind > maxBehind {
			note := fmt.Sprintf("archive: %d sealed segments are not there yet", behind)
			if err := n.archiver.Err(); err != nil {
				note += ": " + err.Error()
			}
			notes = append(notes, note)
		}
	}
	return notes
}

// maxFeedLag is how long a claim may wait for the queue unmentioned.
const maxFeedLag = 5 * time.Second

// maxBehind is how many sealed segments may wait for the archive unmentioned.
const maxBehind = 2

// behind says what is wrong with the ledger.
func (n *Node) behind(ctx context.Context) []string {
	if err := n.ledger.Ping(ctx); err != nil {
		return []string{err.Error()} // it names the ledger
	}
	if err := n.follower.Err(); err != nil {
		return []string{"ledger: cannot follow the log: " + err.Error()}
	}
	return nil
}

// stuck says what is wrong with the lanes.
func (n *Node) stuck(ctx context.Context) (problems []string) {
	select {
	case <-n.consumer.Opened():
	default:
		return []string{"lanes: not open yet"}
	}
	for _, lane := range n.consumer.Lanes(ctx) {
		if lane.Problem != "" {
			problems = append(problems, "lane "+lane.Partner+": "+lane.Problem)
		}
	}
	return problems
}
