package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"manna/fallbacklog"
)

// ErrNodeTaken: another process has the node's name.
var ErrNodeTaken = errors.New("node name is taken")

// ErrNodeBeats is the ErrNodeTaken of a node that was heard of a moment ago from another
// directory: it is alive, or will be silent soon.
var ErrNodeBeats = fmt.Errorf("%w by a process that was alive a moment ago", ErrNodeTaken)

// BeatWithin is how soon after a beat a process that lives is heard of again.
const BeatWithin = 5 * time.Second

// ErrLogShort: a process has the home of the node and a log that ends before the
// node's did, as one that was brought back from a copy has.
var ErrLogShort = errors.New("the log lacks its end")

// Registry knows the nodes. Kept here alone; durable when a call returns nil.
// Times are by one clock, the engine's.
//
// # States of a node
//
//	up ──▶ left      its process ended in order; all it did is in its log
//	 └───▶ lost      a person said that its process will never run again
//	left, lost ──▶ up        a process joined under the name
//	left, lost ──▶ retired   a person said that nothing more is to come of it
//
// A node that is up and silent stays up: nobody can tell from here whether its
// process is dead. Each process has an epoch, above those of all before it under
// its name; what an earlier one still asks for is refused with ErrFenced.
type Registry interface {
	// Join makes a process known and gives its epoch. Where the node is up, a process of
	// the same home and place takes over, for its lock on the home shows that the one
	// before is dead. One of the same home in another place, to which it was moved or
	// copied, is refused with ErrNodeBeats until the node has been silent for
	// BeatWithin; one of another home is refused with ErrNodeTaken, however
	// long the node has been silent: two logs under one name would hide each other. So
	// is one of another home where the node has left with a log. One whose log is short
	// of what Beat and Leave have told is refused with ErrLogShort, unless the node was
	// declared lost: it would give positions a second time that the ledger, the archive
	// and other nodes know. What was written after the last of them cannot be missed.
	//
	// Where a process of another home may join, or one with a short log, all leases of
	// the one before become Former's, for its log does not say how many of them were
	// handed out: they stay counted until they are settled, so stock may be left over
	// that nobody gets.
	Join(ctx context.Context, p Process) (epoch int64, err error)
	// Beat says that the process is alive, and how long its log is: a position up to
	// which it is durable, so that no crash makes it short of that. Errors: ErrFenced.
	Beat(ctx context.Context, h Holder, end fallbacklog.Position) error
	// Leave says that the process ends in order, with a log that ends at end. Once that
	// has been taken in up to end, the node does not hold AsOf back any more, until it
	// joins again: what it accepts before it has joined, nobody waits for, as with a
	// node that is new. Errors: ErrFenced.
	Leave(ctx context.Context, h Holder, end fallbacklog.Position) error
	// Lose says, on a person's word, that the node's process will never run again. Its
	// leases stay as they are, until they are settled by its log or for good.
	// Errors: ErrNotFound.
	Lose(ctx context.Context, node, by string) error
	// Retire says, on a person's word, that nothing more is to come of the node: its
	// log has been taken in or is given up. It does not hold AsOf back any more.
	// Errors: ErrNotFound, ErrHeld where it is up.
	Retire(ctx context.Context, node, by string) error
	// Nodes lists all nodes by name, and the engine's time.
	Nodes(ctx context.Context) (nodes []Node, now time.Time, err error)
}

// Process is what joins.
type Process struct {
	Node string
	// Home is where the node's log is, in words that name the same directory
	// whenever it is met and no other: the id kept in it, or host and path.
	Home string
	// Place names the directory that the home is in just now, as long as its machine is
	// up: no copy of it has the same. Where one is not told they are not compared.
	Place   string
	Roles   []string
	Version string
	Address string // where others reach its admin port
	// End is the Tip that its log was found with, before it wrote anything; 0 where that
	// is not told, and then the log is not compared with what is known of it.
	End fallbacklog.Position
}

// NodeState is where a node stands; Registry draws the moves.
type NodeState string

const (
	NodeUp      NodeState = "up"
	NodeLeft    NodeState = "left"
	NodeLost    NodeState = "lost"
	NodeRetired NodeState = "retired"
)

// Node is a node as the registry knows it.
type Node struct {
	Name    string               `json:"node"`
	State   NodeState            `json:"state"`
	Epoch   int64                `json:"epoch"`
	Home    string               `json:"home"`
	Roles   []string             `json:"roles,omitempty"`
	Version string               `json:"version,omitempty"`
	Address string               `json:"address,omitempty"`
	Started time.Time            `json:"started"`
	Seen    time.Time            `json:"seen"` // its last beat
	LogEnd  fallbacklog.Position `json:"log_end"`
	// Ended: LogEnd was told by Leave, and no process has joined since. Otherwise the
	// log may go on behind it.
	Ended bool   `json:"ended,omitempty"`
	By    string `json:"by,omitempty"` // who declared it lost or retired
}

// Silent tells for how long the node has not been heard of.
func (n *Node) Silent(now time.Time) time.Duration { return max(0, now.Sub(n.Seen)) }

// missedAfter is how long a node that is up may not have been heard of unmentioned.
const missedAfter = time.Minute

// Missed reports whether the node is up and has not been heard of for long.
func (n *Node) Missed(now time.Time) bool {
	return n.State == NodeUp && n.Silent(now) > missedAfter
}
